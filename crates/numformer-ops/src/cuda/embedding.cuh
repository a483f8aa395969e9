// Tokens and positions: their sum, and its gradients.

// sum[r] <- tokens[ids[r]] + positions[r % length + offset]: sum: [rows, d], tokens: [v, d], positions: [p, d]. The
// offset is read from memory if its pointer is not null. An id or a position beyond its table counts as zeros. Each
// warp handles one row.
extern "C" __global__ void KERNEL(embed)(T* sum, const unsigned* ids, const float* tokens, const float* positions,
                                         const unsigned* offset, unsigned rows, unsigned length, unsigned d, unsigned v,
                                         unsigned p) {
  const unsigned row = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
  if (row >= rows) return;
  const unsigned id = ids[row], position = row % length + (offset ? *offset : 0);
  for (unsigned c = threadIdx.x % WARP; c < d; c += WARP) {
    const float token = id < v ? tokens[static_cast<size_t>(id) * d + c] : 0;
    const float place = position < p ? positions[static_cast<size_t>(position) * d + c] : 0;
    store(&sum[static_cast<size_t>(row) * d + c], token + place);
  }
}
REGISTER(KERNEL(embed))

// Adds each row of d_sum [rows, d] to the row of a table [v, d] that `keys` gives. `order` lists the rows so that equal
// keys are adjacent; the block of the first row with a key adds all rows with that key, in that order. The grid is
// [rows, d / 32], a block is 32 columns by 8 rows.
extern "C" __global__ void KERNEL(scatter)(float* table, const T* d_sum, const unsigned* keys, const unsigned* order,
                                           unsigned rows, unsigned d, unsigned v) {
  __shared__ float sums[8][WARP];
  const unsigned first = blockIdx.x, column = blockIdx.y * WARP + threadIdx.x;
  const unsigned row = order[first];
  const unsigned key = row < rows ? keys[row] : v;
  // The condition is the same for the whole block.
  if (key >= v || (first > 0 && order[first - 1] < rows && keys[order[first - 1]] == key)) return;
  float sum = 0;
  for (unsigned at = first + threadIdx.y; at < rows; at += 8) {
    const unsigned other = order[at];
    if (other >= rows || keys[other] != key) break;
    if (column < d) sum += load(d_sum[static_cast<size_t>(other) * d + column]);
  }
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y == 0 && column < d) {
    float total = 0;
    for (unsigned i = 0; i < 8; ++i) total += sums[i][threadIdx.x];
    table[static_cast<size_t>(key) * d + column] += total;
  }
}
REGISTER(KERNEL(scatter))
