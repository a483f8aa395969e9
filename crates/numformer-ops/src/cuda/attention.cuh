// Scaled dot-product attention of one head of one example: softmax(q k' / sqrt(d)) v, in tiles of 32 keys (or queries),
// so that scores are never in memory. A block is four warps, each with a few rows of its own. The lanes of a warp are
// the rows of the tile when scores are computed, and the entries of a head when sums are computed.
//
// The softmax is computed tile by tile (Milakov, Gimelshein 2018, arXiv:1805.02867). The backward pass recomputes the
// probabilities from the logarithm of their normaliser (Dao et al. 2022, arXiv:2205.14135).
//
// q and y: [batch, t, heads, d], k and v: [batch, s, heads, d], as parts of wider rows: a stride is the width of a
// whole row, and the pointer is to the first entry of the first head. Keys at or beyond lengths[b] are not seen. In
// causal attention, query i does not see keys after position s - t + i either. The grid is [tiles of own rows, heads,
// batch].

#define WARPS 4
#define OWN (WARPS * ROWS)
#define SPLIT (WIDTH / WARP)
#define NAMED(name) KERNEL(JOIN(name, WIDTH))

// Loads `count` rows of `d` entries each, from row `first` on; rows from `end` on, and all other entries, are zero.
static __device__ void NAMED(load_rows)(float* to, unsigned stride_to, const T* from, size_t stride, unsigned first,
                                        unsigned count, unsigned end, unsigned d, float scale) {
  for (unsigned at = threadIdx.x; at < count * WIDTH; at += blockDim.x) {
    const unsigned row = at / WIDTH, column = at % WIDTH;
    const bool there = first + row < end && column < d;
    to[row * stride_to + column] = there ? load(from[(first + row) * stride + column]) * scale : 0;
  }
}

// y <- attention; normalisers [batch, heads, t] <- log of the summed exponentials. For a query that sees no key, the
// normaliser is infinite and y is zero.
extern "C" __global__ void NAMED(attention)(T* y, float* normalisers, const T* q, const T* k, const T* v,
                                            const unsigned* lengths, unsigned t, unsigned s, unsigned d, unsigned y_stride,
                                            unsigned q_stride, unsigned k_stride, unsigned v_stride, unsigned causal,
                                            float scale) {
  __shared__ float keys[WARP][WIDTH + 1], values[WARP][WIDTH + 1], queries[OWN][WIDTH];
  const unsigned lane = threadIdx.x % WARP, own = threadIdx.x / WARP * ROWS;
  const unsigned first = blockIdx.x * OWN, head = blockIdx.y, example = blockIdx.z;
  const unsigned valid = min(s, lengths[example]);
  const unsigned past = min(first + OWN, t);
  const unsigned end = causal ? min(valid, past + s - t) : valid;
  q += static_cast<size_t>(example) * t * q_stride + head * d;
  k += static_cast<size_t>(example) * s * k_stride + head * d;
  v += static_cast<size_t>(example) * s * v_stride + head * d;
  y += static_cast<size_t>(example) * t * y_stride + head * d;
  NAMED(load_rows)(queries[0], WIDTH, q, q_stride, first, OWN, t, d, scale);

  float sums[ROWS][SPLIT] = {}, largest[ROWS], totals[ROWS] = {};
  for (unsigned r = 0; r < ROWS; ++r) largest[r] = -INFINITY;
  for (unsigned tile = 0; tile < end; tile += WARP) {
    __syncthreads();
    NAMED(load_rows)(keys[0], WIDTH + 1, k, k_stride, tile, WARP, end, d, 1);
    NAMED(load_rows)(values[0], WIDTH + 1, v, v_stride, tile, WARP, end, d, 1);
    __syncthreads();
    float scores[ROWS] = {};
    for (unsigned c = 0; c < WIDTH; ++c) {
      const float key = keys[lane][c];
#pragma unroll
      for (unsigned r = 0; r < ROWS; ++r) scores[r] += queries[own + r][c] * key;
    }
#pragma unroll
    for (unsigned r = 0; r < ROWS; ++r) {
      const unsigned query = first + own + r, key = tile + lane;
      const bool seen = query < t && key < valid && (!causal || key <= query + s - t);
      const float now = fmaxf(largest[r], warp_max(seen ? scores[r] : -INFINITY));
      const float before = largest[r] > -INFINITY ? expf(largest[r] - now) : 0;
      scores[r] = seen ? expf(scores[r] - now) : 0;
      totals[r] = totals[r] * before + warp_sum(scores[r]);
      largest[r] = now;
#pragma unroll
      for (unsigned part = 0; part < SPLIT; ++part) sums[r][part] *= before;
    }
    for (unsigned key = 0; key < WARP; ++key) {
#pragma unroll
      for (unsigned r = 0; r < ROWS; ++r) {
        const float weight = __shfl_sync(ALL, scores[r], key);
#pragma unroll
        for (unsigned part = 0; part < SPLIT; ++part) sums[r][part] += weight * values[key][part * WARP + lane];
      }
    }
  }
#pragma unroll
  for (unsigned r = 0; r < ROWS; ++r) {
    const unsigned query = first + own + r;
    if (query >= t) continue;
    // The test is `!= 0` rather than `> 0`, so that NaN passes.
    const bool any = totals[r] != 0;
#pragma unroll
    for (unsigned part = 0; part < SPLIT; ++part) {
      const unsigned column = part * WARP + lane;
      if (column < d) store(&y[static_cast<size_t>(query) * y_stride + column], any ? sums[r][part] / totals[r] : 0);
    }
    if (lane == 0 && normalisers)
      normalisers[(static_cast<size_t>(example) * gridDim.y + head) * t + query] =
          any ? largest[r] + logf(totals[r]) : INFINITY;
  }
}
REGISTER(NAMED(attention))

// d_q <- gradient of the queries; products [batch, heads, t] <- d_y . y of each query. The rows of a block are queries.
extern "C" __global__ void NAMED(attention_query_gradient)(
    T* d_q, float* products, const T* d_y, const T* y, const float* normalisers, const T* q, const T* k, const T* v,
    const unsigned* lengths, unsigned t, unsigned s, unsigned d, unsigned y_stride, unsigned q_stride, unsigned k_stride,
    unsigned v_stride, unsigned causal, float scale) {
  __shared__ float keys[WARP][WIDTH + 1], values[WARP][WIDTH + 1], queries[OWN][WIDTH], wanted[OWN][WIDTH];
  const unsigned lane = threadIdx.x % WARP, own = threadIdx.x / WARP * ROWS;
  const unsigned first = blockIdx.x * OWN, head = blockIdx.y, example = blockIdx.z;
  const unsigned valid = min(s, lengths[example]);
  const unsigned past = min(first + OWN, t);
  const unsigned end = causal ? min(valid, past + s - t) : valid;
  const size_t row_of_head = (static_cast<size_t>(example) * gridDim.y + head) * t;
  q += static_cast<size_t>(example) * t * q_stride + head * d;
  d_q += static_cast<size_t>(example) * t * q_stride + head * d;
  k += static_cast<size_t>(example) * s * k_stride + head * d;
  v += static_cast<size_t>(example) * s * v_stride + head * d;
  y += static_cast<size_t>(example) * t * y_stride + head * d;
  d_y += static_cast<size_t>(example) * t * y_stride + head * d;
  NAMED(load_rows)(queries[0], WIDTH, q, q_stride, first, OWN, t, d, scale);
  NAMED(load_rows)(wanted[0], WIDTH, d_y, y_stride, first, OWN, t, d, 1);
  __syncthreads();

  float sums[ROWS][SPLIT] = {}, product[ROWS], normaliser[ROWS];
  for (unsigned r = 0; r < ROWS; ++r) {
    const unsigned query = first + own + r;
    float along = 0;
    for (unsigned c = lane; c < d; c += WARP)
      if (query < t) along += wanted[own + r][c] * load(y[static_cast<size_t>(query) * y_stride + c]);
    product[r] = warp_sum(along);
    normaliser[r] = query < t ? normalisers[row_of_head + query] : INFINITY;
    if (query < t && lane == 0) products[row_of_head + query] = product[r];
  }
  for (unsigned tile = 0; tile < end; tile += WARP) {
    __syncthreads();
    NAMED(load_rows)(keys[0], WIDTH + 1, k, k_stride, tile, WARP, end, d, 1);
    NAMED(load_rows)(values[0], WIDTH + 1, v, v_stride, tile, WARP, end, d, 1);
    __syncthreads();
    float scores[ROWS] = {}, gains[ROWS] = {};
    for (unsigned c = 0; c < WIDTH; ++c) {
      const float key = keys[lane][c], value = values[lane][c];
#pragma unroll
      for (unsigned r = 0; r < ROWS; ++r) {
        scores[r] += queries[own + r][c] * key;
        gains[r] += wanted[own + r][c] * value;
      }
    }
#pragma unroll
    for (unsigned r = 0; r < ROWS; ++r) {
      const unsigned query = first + own + r, key = tile + lane;
      const bool seen = query < t && key < valid && (!causal || key <= query + s - t);
      scores[r] = seen ? expf(scores[r] - normaliser[r]) * (gains[r] - product[r]) * scale : 0;
    }
    for (unsigned key = 0; key < WARP; ++key) {
#pragma unroll
      for (unsigned r = 0; r < ROWS; ++r) {
        const float weight = __shfl_sync(ALL, scores[r], key);
#pragma unroll
        for (unsigned part = 0; part < SPLIT; ++part) sums[r][part] += weight * keys[key][part * WARP + lane];
      }
    }
  }
#pragma unroll
  for (unsigned r = 0; r < ROWS; ++r) {
    const unsigned query = first + own + r;
    if (query >= t) continue;
#pragma unroll
    for (unsigned part = 0; part < SPLIT; ++part) {
      const unsigned column = part * WARP + lane;
      if (column < d) store(&d_q[static_cast<size_t>(query) * q_stride + column], sums[r][part]);
    }
  }
}
REGISTER(NAMED(attention_query_gradient))

// d_k, d_v <- gradients of keys and values; those of unseen keys are zero. The rows of a block are keys.
extern "C" __global__ void NAMED(attention_key_gradients)(
    T* d_k, T* d_v, const float* products, const T* d_y, const float* normalisers, const T* q, const T* k, const T* v,
    const unsigned* lengths, unsigned t, unsigned s, unsigned d, unsigned y_stride, unsigned q_stride, unsigned k_stride,
    unsigned v_stride, unsigned causal, float scale) {
  __shared__ float queries[WARP][WIDTH + 1], wanted[WARP][WIDTH + 1], keys[OWN][WIDTH], values[OWN][WIDTH];
  const unsigned lane = threadIdx.x % WARP, own = threadIdx.x / WARP * ROWS;
  const unsigned first = blockIdx.x * OWN, head = blockIdx.y, example = blockIdx.z;
  const unsigned valid = min(s, lengths[example]);
  const size_t row_of_head = (static_cast<size_t>(example) * gridDim.y + head) * t;
  q += static_cast<size_t>(example) * t * q_stride + head * d;
  k += static_cast<size_t>(example) * s * k_stride + head * d;
  d_k += static_cast<size_t>(example) * s * k_stride + head * d;
  v += static_cast<size_t>(example) * s * v_stride + head * d;
  d_v += static_cast<size_t>(example) * s * v_stride + head * d;
  d_y += static_cast<size_t>(example) * t * y_stride + head * d;
  NAMED(load_rows)(keys[0], WIDTH, k, k_stride, first, OWN, s, d, scale);
  NAMED(load_rows)(values[0], WIDTH, v, v_stride, first, OWN, s, d, 1);

  float of_keys[ROWS][SPLIT] = {}, of_values[ROWS][SPLIT] = {};
  // The first query that sees a key of the block; no query sees a key beyond the example's length.
  const unsigned earliest = causal && first + t > s ? first + t - s : 0;
  for (unsigned tile = earliest / WARP * WARP; tile < t && first < valid; tile += WARP) {
    __syncthreads();
    NAMED(load_rows)(queries[0], WIDTH + 1, q, q_stride, tile, WARP, t, d, 1);
    NAMED(load_rows)(wanted[0], WIDTH + 1, d_y, y_stride, tile, WARP, t, d, 1);
    __syncthreads();
    const unsigned query = tile + lane;
    const float normaliser = query < t ? normalisers[row_of_head + query] : INFINITY;
    const float product = query < t ? products[row_of_head + query] : 0;
    float scores[ROWS] = {}, gains[ROWS] = {};
    for (unsigned c = 0; c < WIDTH; ++c) {
      const float of_query = queries[lane][c], of_wanted = wanted[lane][c];
#pragma unroll
      for (unsigned r = 0; r < ROWS; ++r) {
        scores[r] += keys[own + r][c] * of_query;
        gains[r] += values[own + r][c] * of_wanted;
      }
    }
#pragma unroll
    for (unsigned r = 0; r < ROWS; ++r) {
      const unsigned key = first + own + r;
      const bool seen = query < t && key < valid && (!causal || key <= query + s - t);
      scores[r] = seen ? expf(scores[r] - normaliser) : 0;
      gains[r] = scores[r] * (gains[r] - product) * scale;
    }
    for (unsigned other = 0; other < WARP; ++other) {
#pragma unroll
      for (unsigned r = 0; r < ROWS; ++r) {
        const float probability = __shfl_sync(ALL, scores[r], other), gain = __shfl_sync(ALL, gains[r], other);
#pragma unroll
        for (unsigned part = 0; part < SPLIT; ++part) {
          of_keys[r][part] += gain * queries[other][part * WARP + lane];
          of_values[r][part] += probability * wanted[other][part * WARP + lane];
        }
      }
    }
  }
#pragma unroll
  for (unsigned r = 0; r < ROWS; ++r) {
    const unsigned key = first + own + r;
    if (key >= s) continue;
#pragma unroll
    for (unsigned part = 0; part < SPLIT; ++part) {
      const unsigned column = part * WARP + lane;
      if (column < d) {
        store(&d_k[static_cast<size_t>(key) * k_stride + column], of_keys[r][part]);
        store(&d_v[static_cast<size_t>(key) * v_stride + column], of_values[r][part]);
      }
    }
  }
}
REGISTER(NAMED(attention_key_gradients))

#undef WARPS
#undef OWN
#undef SPLIT
#undef NAMED
