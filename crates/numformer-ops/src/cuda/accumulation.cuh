// Vectors: sums over the batches of a step, and rounding.

// sum [n] <- sum + factor x
extern "C" __global__ void add_scaled(float* sum, const float* x, float factor, unsigned n) {
  const unsigned at = blockIdx.x * blockDim.x + threadIdx.x;
  if (at < n) sum[at] += factor * x[at];
}
REGISTER(add_scaled)

// *total <- *total + factor times the sum of losses [rows]. The grid is one block.
extern "C" __global__ void add_losses(float* total, const float* losses, float factor, unsigned rows) {
  double sum = 0;
  for (unsigned at = threadIdx.x; at < rows; at += blockDim.x) sum += losses[at];
  sum = block_sum(sum);
  if (threadIdx.x == 0) *total = static_cast<float>(*total + factor * sum);
}
REGISTER(add_losses)

// x [n] <- x / *divisor; zeros if that is zero.
extern "C" __global__ void divide(float* x, const float* divisor, unsigned n) {
  const unsigned at = blockIdx.x * blockDim.x + threadIdx.x;
  if (at < n) x[at] = *divisor == 0 ? 0 : x[at] / *divisor;
}
REGISTER(divide)

// y <- x, rounded to bf16.
extern "C" __global__ void round_to_bf16(bf16* y, const float* x, unsigned n) {
  for (size_t at = blockIdx.x * static_cast<size_t>(blockDim.x) + threadIdx.x; at < n;
       at += static_cast<size_t>(gridDim.x) * blockDim.x)
    store(&y[at], x[at]);
}
REGISTER(round_to_bf16)
