// All kernels, for elements of f32 and of bf16. Each file says what its kernels compute; the host checks sizes.
//
// Every sum has a fixed order, so the same input gives the same bits. No kernel uses atomic operations.
#include "common.cuh"

#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)
#define KERNEL(name) JOIN(name, SUFFIX)

#ifndef REGISTER
#define REGISTER(kernel)
#endif

#include "accumulation.cuh"
#include "adam.cuh"
#include "chacha.cuh"

#define T float
#define SUFFIX f32
#include "attention_widths.cuh"
#include "cross_entropy.cuh"
#include "dropout.cuh"
#include "elementwise.cuh"
#include "embedding.cuh"
#include "gradients.cuh"
#include "greedy.cuh"
#include "layer_norm.cuh"
#undef T
#undef SUFFIX

#define T bf16
#define SUFFIX bf16
#include "attention_widths.cuh"
#include "cross_entropy.cuh"
#include "dropout.cuh"
#include "elementwise.cuh"
#include "embedding.cuh"
#include "gradients.cuh"
#include "greedy.cuh"
#include "layer_norm.cuh"
