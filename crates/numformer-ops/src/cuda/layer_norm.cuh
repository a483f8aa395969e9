// Layer norm of rows, after a residual is added. Each warp handles one row.

// sum <- sum + residual; moments <- mean and 1/sqrt(variance + eps) of each row; y <- normalised, scaled and shifted.
// sum, residual, y: [rows, d]; moments: [rows, 2]; weight, bias: [d]. `residual` is null if there is none.
extern "C" __global__ void KERNEL(add_layer_norm)(T* y, T* sum, float* moments, const T* residual, const float* weight,
                                                  const float* bias, unsigned rows, unsigned d, float eps) {
  const unsigned row = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
  const unsigned lane = threadIdx.x % WARP;
  if (row >= rows) return;
  T* x = sum + static_cast<size_t>(row) * d;
  float total = 0;
  for (unsigned c = lane; c < d; c += WARP) {
    if (residual) store(&x[c], load(x[c]) + load(residual[static_cast<size_t>(row) * d + c]));
    total += load(x[c]);
  }
  const float mean = warp_sum(total) / d;
  float squares = 0;
  for (unsigned c = lane; c < d; c += WARP) {
    const float centred = load(x[c]) - mean;
    squares += centred * centred;
  }
  const float scale = 1 / sqrtf(warp_sum(squares) / d + eps);
  if (lane == 0) {
    moments[2 * row] = mean;
    moments[2 * row + 1] = scale;
  }
  for (unsigned c = lane; c < d; c += WARP)
    store(&y[static_cast<size_t>(row) * d + c], (load(x[c]) - mean) * scale * weight[c] + bias[c]);
}
REGISTER(KERNEL(add_layer_norm))

// d_sum <- the gradient of the sum that was normalised: d_sum, sum, d_y: [rows, d].
extern "C" __global__ void KERNEL(layer_norm_backward)(T* d_sum, const T* sum, const float* moments, const float* weight,
                                                       const T* d_y, unsigned rows, unsigned d) {
  const unsigned row = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
  const unsigned lane = threadIdx.x % WARP;
  if (row >= rows) return;
  const size_t first = static_cast<size_t>(row) * d;
  const float mean = moments[2 * row], scale = moments[2 * row + 1];
  float total = 0, along = 0;
  for (unsigned c = lane; c < d; c += WARP) {
    const float g = load(d_y[first + c]) * weight[c];
    total += g;
    along += g * (load(sum[first + c]) - mean) * scale;
  }
  total = warp_sum(total) / d;
  along = warp_sum(along) / d;
  for (unsigned c = lane; c < d; c += WARP) {
    const float normalised = (load(sum[first + c]) - mean) * scale;
    store(&d_sum[first + c], (load(d_y[first + c]) * weight[c] - total - normalised * along) * scale);
  }
}
REGISTER(KERNEL(layer_norm_backward))

// Gradients of weight and bias, summed over chunks of rows: partials: [2, chunks, d]. The grid is [d / 32, chunks], a
// block is 32 columns by 8 rows.
extern "C" __global__ void KERNEL(layer_norm_partials)(float* partials, const T* sum, const float* moments, const T* d_y,
                                                       unsigned rows, unsigned d, unsigned rows_of_chunk) {
  __shared__ float weights[8][WARP], biases[8][WARP];
  const unsigned column = blockIdx.x * WARP + threadIdx.x;
  const unsigned end = min(rows, (blockIdx.y + 1) * rows_of_chunk);
  float d_weight = 0, d_bias = 0;
  if (column < d) {
    for (unsigned row = blockIdx.y * rows_of_chunk + threadIdx.y; row < end; row += 8) {
      const size_t at = static_cast<size_t>(row) * d + column;
      const float g = load(d_y[at]);
      d_weight += g * (load(sum[at]) - moments[2 * row]) * moments[2 * row + 1];
      d_bias += g;
    }
  }
  weights[threadIdx.y][threadIdx.x] = d_weight;
  biases[threadIdx.y][threadIdx.x] = d_bias;
  __syncthreads();
  if (threadIdx.y == 0 && column < d) {
    float of_weight = 0, of_bias = 0;
    for (unsigned i = 0; i < 8; ++i) {
      of_weight += weights[i][threadIdx.x];
      of_bias += biases[i][threadIdx.x];
    }
    partials[static_cast<size_t>(blockIdx.y) * d + column] = of_weight;
    partials[static_cast<size_t>(gridDim.y + blockIdx.y) * d + column] = of_bias;
  }
}
REGISTER(KERNEL(layer_norm_partials))
