// Softmax and cross-entropy of rows of logits. Each block handles one row.

// losses[r] <- cross-entropy of row r, in nats; logits [rows, v] <- their gradients, each row times `share`. A row
// without a target has a loss and gradients of zero. The logits are read from memory once for the loss, and once more
// for their gradients.
extern "C" __global__ void KERNEL(cross_entropy)(float* losses, T* logits, const unsigned* targets, const float* share,
                                                 unsigned v) {
  T* row = logits + static_cast<size_t>(blockIdx.x) * v;
  const unsigned target = targets[blockIdx.x];
  // The condition is the same for the whole block.
  if (target >= v) {
    for (unsigned c = threadIdx.x; c < v; c += blockDim.x) store(&row[c], 0);
    if (threadIdx.x == 0) losses[blockIdx.x] = 0;
    return;
  }
  float largest = -INFINITY, total = 0;
  for (unsigned c = threadIdx.x; c < v; c += blockDim.x) {
    const float x = load(row[c]);
    if (x > largest) {
      total *= expf(largest - x);
      largest = x;
    }
    total += expf(x - largest);
  }
  const float all = block_max(largest);
  total = block_sum(largest > -INFINITY ? total * expf(largest - all) : total);
  const float log_total = all + logf(total);
  if (threadIdx.x == 0) losses[blockIdx.x] = log_total - load(row[target]);
  // The target's logit is read before any logit is replaced.
  __syncthreads();
  for (unsigned c = threadIdx.x; c < v; c += blockDim.x)
    store(&row[c], (expf(load(row[c]) - log_total) - (c == target ? 1.0f : 0.0f)) * *share);
}
REGISTER(KERNEL(cross_entropy))
