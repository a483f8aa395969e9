// Shared by all kernels: elements of two types, and reductions within a warp and a block.
#pragma once

constexpr unsigned WARP = 32;
constexpr unsigned ALL = 0xffffffffu;
// As a target: the row does not count.
constexpr unsigned NO_TARGET = 0xffffffffu;

// The upper half of an f32. It is only a storage format; arithmetic is in f32.
struct bf16 {
  unsigned short bits;
};

__device__ inline float load(float x) { return x; }
__device__ inline float load(bf16 x) { return __uint_as_float(static_cast<unsigned>(x.bits) << 16); }

__device__ inline void store(float* to, float x) { *to = x; }
// Rounds to nearest, ties to even; NaN stays NaN.
__device__ inline void store(bf16* to, float x) {
  unsigned bits = __float_as_uint(x);
  if (x != x) {
    bits |= 0x00400000u;
  } else {
    bits += 0x7fffu + ((bits >> 16) & 1u);
  }
  to->bits = static_cast<unsigned short>(bits >> 16);
}

// Sum over a warp, in every lane. The order follows the bits of the lane numbers, so the result is unique.
__device__ inline float warp_sum(float x) {
  for (unsigned lanes = WARP / 2; lanes > 0; lanes /= 2) x += __shfl_xor_sync(ALL, x, lanes);
  return x;
}

__device__ inline double warp_sum(double x) {
  for (unsigned lanes = WARP / 2; lanes > 0; lanes /= 2) x += __shfl_xor_sync(ALL, x, lanes);
  return x;
}

__device__ inline float warp_max(float x) {
  for (unsigned lanes = WARP / 2; lanes > 0; lanes /= 2) x = fmaxf(x, __shfl_xor_sync(ALL, x, lanes));
  return x;
}

// Sum over a block of whole warps, in every thread.
template <class X>
__device__ inline X block_sum(X x) {
  __shared__ X sums[WARP];
  x = warp_sum(x);
  __syncthreads();
  if (threadIdx.x % WARP == 0) sums[threadIdx.x / WARP] = x;
  __syncthreads();
  X total = 0;
  for (unsigned warp = 0; warp < blockDim.x / WARP; ++warp) total += sums[warp];
  return total;
}

__device__ inline float block_max(float x) {
  __shared__ float largest[WARP];
  x = warp_max(x);
  __syncthreads();
  if (threadIdx.x % WARP == 0) largest[threadIdx.x / WARP] = x;
  __syncthreads();
  float all = largest[0];
  for (unsigned warp = 1; warp < blockDim.x / WARP; ++warp) all = fmaxf(all, largest[warp]);
  return all;
}
