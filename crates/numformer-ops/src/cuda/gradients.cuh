// Gradients of biases, and gradients before an activation: sums over rows.

// Sums of the columns of d_y [rows, n] over chunks of rows: partials: [chunks, n]. If hidden [rows, n] is not null, d_y
// is first set to zero where hidden is not positive: the gradient of a ReLU. The grid is [n / 32, chunks], a block is
// 32 columns by 8 rows.
extern "C" __global__ void KERNEL(column_partials)(float* partials, T* d_y, const T* hidden, unsigned rows, unsigned n,
                                                   unsigned rows_of_chunk) {
  __shared__ float sums[8][WARP];
  const unsigned column = blockIdx.x * WARP + threadIdx.x;
  const unsigned end = min(rows, (blockIdx.y + 1) * rows_of_chunk);
  float sum = 0;
  if (column < n) {
    for (unsigned row = blockIdx.y * rows_of_chunk + threadIdx.y; row < end; row += 8) {
      const size_t at = static_cast<size_t>(row) * n + column;
      float g = load(d_y[at]);
      if (hidden && !(load(hidden[at]) > 0)) {
        g = 0;
        store(&d_y[at], g);
      }
      sum += g;
    }
  }
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y == 0 && column < n) {
    float total = 0;
    for (unsigned i = 0; i < 8; ++i) total += sums[i][threadIdx.x];
    partials[static_cast<size_t>(blockIdx.y) * n + column] = total;
  }
}
REGISTER(KERNEL(column_partials))
