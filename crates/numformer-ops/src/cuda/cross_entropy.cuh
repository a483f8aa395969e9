// Softmax and cross-entropy of rows of logits. Each block handles one row.

// losses[r] <- cross-entropy of row r, in nats; logits [rows, v] <- their gradients, each row times `share`. The target
// has the weight 1 - smoothing, and all v classes share the rest evenly: Szegedy et al. (2016), *Rethinking the
// inception architecture for computer vision*, section 7. A row without a target has a loss and gradients of zero. The
// logits are read from memory once for the loss, and once more for their gradients.
extern "C" __global__ void KERNEL(cross_entropy)(float* losses, T* logits, const unsigned* targets, const float* share,
                                                 unsigned v, float smoothing) {
  T* row = logits + static_cast<size_t>(blockIdx.x) * v;
  const unsigned target = targets[blockIdx.x];
  // The condition is the same for the whole block.
  if (target >= v) {
    for (unsigned c = threadIdx.x; c < v; c += blockDim.x) store(&row[c], 0);
    if (threadIdx.x == 0) losses[blockIdx.x] = 0;
    return;
  }
  float largest = -INFINITY, total = 0, sum = 0;
  for (unsigned c = threadIdx.x; c < v; c += blockDim.x) {
    const float x = load(row[c]);
    if (x > largest) {
      total *= expf(largest - x);
      largest = x;
    }
    total += expf(x - largest);
    sum += x;
  }
  const float all = block_max(largest);
  total = block_sum(largest > -INFINITY ? total * expf(largest - all) : total);
  const float log_total = all + logf(total);
  // The condition is the same for the whole block.
  const float mean = smoothing > 0 ? block_sum(sum) / v : 0;
  if (threadIdx.x == 0) {
    const float score = load(row[target]);
    // Smoothing moves weight from the target's score to the mean score.
    losses[blockIdx.x] = smoothing > 0 ? log_total - score + smoothing * (score - mean) : log_total - score;
  }
  // The target's logit is read before any logit is replaced.
  __syncthreads();
  const float of_target = 1 - smoothing, of_all = smoothing / v;
  for (unsigned c = threadIdx.x; c < v; c += blockDim.x)
    store(&row[c], (expf(load(row[c]) - log_total) - (c == target ? of_target : 0.0f) - of_all) * *share);
}
REGISTER(KERNEL(cross_entropy))
