// The end of a step: sums of partial sums, the norm of the gradients, and the optimizers.

// out[i] <- sum of partials[k, i] over k, [chunks, n], in that order. The second half of the grid's y does the same for
// another output, with the partials that follow.
extern "C" __global__ void sum_partials(float* out, float* other, const float* partials, unsigned n, unsigned chunks) {
  const unsigned at = blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= n) return;
  partials += static_cast<size_t>(blockIdx.y) * chunks * n;
  float sum = 0;
  for (unsigned chunk = 0; chunk < chunks; ++chunk) sum += partials[static_cast<size_t>(chunk) * n + at];
  (blockIdx.y == 0 ? out : other)[at] = sum;
}
REGISTER(sum_partials)

// x[i] <- 0
extern "C" __global__ void clear(unsigned* x, unsigned n) {
  const unsigned at = blockIdx.x * blockDim.x + threadIdx.x;
  if (at < n) x[at] = 0;
}
REGISTER(clear)

// *x <- *x + 1
extern "C" __global__ void increment(unsigned* x, unsigned n) {
  const unsigned at = blockIdx.x * blockDim.x + threadIdx.x;
  if (at < n) x[at] += 1;
}
REGISTER(increment)

// partials[block] <- the sum of the squares of x [n] in the block's share.
extern "C" __global__ void square_partials(double* partials, const float* x, unsigned n) {
  const size_t share = (static_cast<size_t>(n) + gridDim.x - 1) / gridDim.x;
  const size_t begin = blockIdx.x * share;
  const size_t end = begin + share < n ? begin + share : n;
  double sum = 0;
  for (size_t at = begin + threadIdx.x; at < end; at += blockDim.x) sum += static_cast<double>(x[at]) * x[at];
  sum = block_sum(sum);
  if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}
REGISTER(square_partials)

// The numbers of a step, which the host provides.
struct StepNumbers {
  // Step size; for Adam, with both bias corrections.
  float lr;
  // For Adam. For SGD, beta1 is the momentum and the others are not used.
  float beta1, rest1, beta2, rest2, eps;
  // Learning rate times weight decay.
  float decay;
  // The largest norm of the gradients that is not clipped.
  float clip_norm;
  // Where the loss and the norm of this step are written.
  unsigned slot;
  // 1 over the number of target tokens.
  float share;
};

// The state of a step: whether some step was not finite, after which no more are taken, and the factor of the
// gradients.
struct StepState {
  unsigned stopped;
  float gradient_scale;
};

// outcomes[slot] <- mean loss and norm of the gradients. The grid is one block.
extern "C" __global__ void judge_step(float* outcomes, StepState* state, const StepNumbers* numbers, const float* losses,
                                      unsigned rows, const double* squares, unsigned parts, unsigned slots) {
  double loss = 0, square = 0;
  for (unsigned at = threadIdx.x; at < rows; at += blockDim.x) loss += losses[at];
  for (unsigned at = threadIdx.x; at < parts; at += blockDim.x) square += squares[at];
  loss = block_sum(loss);
  square = block_sum(square);
  if (threadIdx.x > 0) return;
  const float mean = static_cast<float>(loss * numbers->share), norm = static_cast<float>(sqrt(square));
  const bool finite = mean - mean == 0 && norm - norm == 0;
  if (!finite) state->stopped = 1;
  state->gradient_scale = norm > numbers->clip_norm ? numbers->clip_norm / norm : 1;
  // Read once, so that the value that is checked is the value that is used.
  const unsigned slot = numbers->slot;
  if (slot < slots) {
    outcomes[2 * slot] = mean;
    outcomes[2 * slot + 1] = norm;
  }
}
REGISTER(judge_step)

// One step of Adam on every weight, with a copy of the weights in bf16 if `copy` is not null.
extern "C" __global__ void adam(float* weights, bf16* copy, const float* gradients, float* first, float* second,
                                const StepState* state, const StepNumbers* numbers, unsigned n) {
  if (state->stopped) return;
  const StepNumbers step = *numbers;
  const float scale = state->gradient_scale;
  for (size_t at = blockIdx.x * static_cast<size_t>(blockDim.x) + threadIdx.x; at < n;
       at += static_cast<size_t>(gridDim.x) * blockDim.x) {
    const float g = gradients[at] * scale;
    const float m = step.beta1 * first[at] + step.rest1 * g;
    const float v = step.beta2 * second[at] + step.rest2 * g * g;
    const float w = weights[at];
    const float moved = w - step.decay * w - step.lr * m / (sqrtf(v) + step.eps);
    first[at] = m;
    second[at] = v;
    weights[at] = moved;
    if (copy) store(&copy[at], moved);
  }
}
REGISTER(adam)

// One step of SGD with momentum on every weight, in Nesterov's form if `nesterov` is not zero, with a copy of the
// weights in bf16 if `copy` is not null.
extern "C" __global__ void sgd(float* weights, bf16* copy, const float* gradients, float* velocity,
                               const StepState* state, const StepNumbers* numbers, unsigned nesterov, unsigned n) {
  if (state->stopped) return;
  const StepNumbers step = *numbers;
  const float scale = state->gradient_scale, momentum = step.beta1;
  for (size_t at = blockIdx.x * static_cast<size_t>(blockDim.x) + threadIdx.x; at < n;
       at += static_cast<size_t>(gridDim.x) * blockDim.x) {
    const float g = gradients[at] * scale;
    const float v = momentum * velocity[at] + g;
    const float direction = nesterov ? g + momentum * v : v;
    const float w = weights[at];
    const float moved = w - (step.decay * w + step.lr * direction);
    velocity[at] = v;
    weights[at] = moved;
    if (copy) store(&copy[at], moved);
  }
}
REGISTER(sgd)
