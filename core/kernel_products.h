// Products of weights with a few rows, each weight read once, as it lies: float32, bfloat16, int8, int4.
//
// R rows of x; weights (out, in), a row an output.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

constexpr long LANES = 8;         // wider ones wait longer for memory
typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef uint32_t Words __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));
typedef uint16_t Halves __attribute__((vector_size(2 * LANES)));
typedef int8_t Bytes __attribute__((vector_size(LANES)));
constexpr long GROUP = 32;        // inputs of one scale in int4
enum Kind { FLOAT32, BFLOAT16, INT8, INT4 };

struct Weight { const void* numbers; const void* scales; const float* bias; int64_t kind, out, in; };

namespace {

template <class T> T load(const void* from) { T x; std::memcpy(&x, from, sizeof(T)); return x; }
float sum(Floats x) { float s = 0; for (long i = 0; i < LANES; i++) s += x[i]; return s; }
float of_float16(const void* from) {
    const uint16_t x = load<uint16_t>(from);
#if defined(__F16C__)
    return _cvtsh_ss(x);
#else
    const float sign = x & 0x8000 ? -1 : 1;
    const int exponent = x >> 10 & 31, fraction = x & 1023;
    if (exponent == 31) return fraction ? NAN : sign * INFINITY;
    return sign * std::ldexp(float(exponent ? 1024 + fraction : fraction), exponent ? exponent - 25 : -24);
#endif
}
float of_bfloat16(uint16_t x) { uint32_t bits = uint32_t(x) << 16; return load<float>(&bits); }

struct Float32 {
    typedef float T;
    static Floats vector(const T* w) { return load<Floats>(w); }
    static float one(T w) { return w; }
};
struct BFloat16 {
    typedef uint16_t T;
    static Floats vector(const T* w) {
        Words bits = __builtin_convertvector(load<Halves>(w), Words) << 16;
        return load<Floats>(&bits);
    }
    static float one(T w) { return of_bfloat16(w); }
};
struct Int8 {
    typedef int8_t T;
    static Floats vector(const T* w) {
#if defined(__AVX2__)
        return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)w)));
#else
        return __builtin_convertvector(__builtin_convertvector(load<Bytes>(w), Ints), Floats);
#endif
    }
    static float one(T w) { return w; }
};

// one row of weights with N rows of x, each `in` long -> y[r]
template <class W, int N> void products(const typename W::T* w, const float* x, long in, float* y) {
    constexpr int U = N == 1 ? 2 : 1;  // sums that do not wait for each other
    Floats sums[U][N] = {};
    float rest[N] = {};
    long i = 0;
    for (; i + U * LANES <= in; i += U * LANES)
        for (int u = 0; u < U; u++) {
            Floats own = W::vector(w + i + u * LANES);
            for (int r = 0; r < N; r++) sums[u][r] += own * load<Floats>(x + r * in + i + u * LANES);
        }
    for (; i < in; i++)
        for (int r = 0; r < N; r++) rest[r] += W::one(w[i]) * x[r * in + i];
    for (int r = 0; r < N; r++) {
        for (int u = 1; u < U; u++) sums[0][r] += sums[u][r];
        y[r] = rest[r] + sum(sums[0][r]);
    }
}

template <class W> void products(const void* weights, long o, const float* x, long in, long R, float* y) {
    const typename W::T* w = (const typename W::T*)weights + o * in;
    long r = 0;
    for (; r + 4 <= R; r += 4) products<W, 4>(w, x + r * in, in, y + r);
    for (; r < R; r++) products<W, 1>(w, x + r * in, in, y + r);
}

// y (n) += sum_j weights[j] rows[j], rows (count, n)
void add_weighted(const float* weights, const float* rows, long count, long n, float* y) {
    constexpr long U = 8;  // sums that stay in registers
    long i = 0;
    for (; i + U * LANES <= n; i += U * LANES) {
        Floats sums[U];
        for (long u = 0; u < U; u++) sums[u] = load<Floats>(y + i + u * LANES);
        for (long j = 0; j < count; j++)
            for (long u = 0; u < U; u++) sums[u] += weights[j] * load<Floats>(rows + j * n + i + u * LANES);
        for (long u = 0; u < U; u++) std::memcpy(y + i + u * LANES, &sums[u], sizeof(Floats));
    }
    for (long j = 0; i < n && j < count; j++)
        for (long rest = i; rest < n; rest++) y[rest] += weights[j] * rows[j * n + rest];
}

// Inputs as int4's products take them: of each group int8 numbers, their scale, and the sum of the inputs.
struct Rounded {
    std::vector<int8_t> numbers;
    std::vector<float> scales, sums;

    void of(const float* x, long n) {
        numbers.resize(n), scales.resize(n / GROUP), sums.resize(n / GROUP);
        for (long g = 0; g < n / GROUP; g++, x += GROUP) {
            float largest = 0, total = 0;
            for (long i = 0; i < GROUP; i++) largest = std::fmax(largest, std::fabs(x[i])), total += x[i];
            float inverse = largest > 0 ? 127 / largest : 0;
            for (long i = 0; i < GROUP; i++) numbers[g * GROUP + i] = int8_t(std::nearbyint(x[i] * inverse));
            scales[g] = largest / 127, sums[g] = total;
        }
    }
};

// a group's bytes hold numbers 0 to 15, i and i + 16 in one; its value is number * scale + least
float product_of_int4(const uint8_t* w, const uint16_t* scales, const int8_t* x, const float* x_scales,
                      const float* x_sums, long groups) {
    float least = 0;
#if defined(__AVX2__)
    __m256 total = _mm256_setzero_ps();
    const __m256i low = _mm256_set1_epi8(15);
    for (long g = 0; g < groups; g++) {
        __m128i both = _mm_loadu_si128((const __m128i*)(w + g * 16));
        __m256i numbers = _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(both, 4), both), low);
        __m256i inputs = _mm256_loadu_si256((const __m256i*)(x + g * GROUP));
#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
        __m256i found = _mm256_dpbusd_epi32(_mm256_setzero_si256(), numbers, inputs);
#else
        __m256i found = _mm256_madd_epi16(_mm256_maddubs_epi16(numbers, inputs), _mm256_set1_epi16(1));
#endif
        __m256 scale = _mm256_set1_ps(of_float16(scales + 2 * g) * x_scales[g]);
        total = _mm256_fmadd_ps(scale, _mm256_cvtepi32_ps(found), total);
        least += of_float16(scales + 2 * g + 1) * x_sums[g];
    }
    float parts[8];
    _mm256_storeu_ps(parts, total);
    for (float part : parts) least += part;
#else
    for (long g = 0; g < groups; g++) {
        int32_t found = 0;
        for (long i = 0; i < 16; i++)
            found += (w[g * 16 + i] & 15) * x[g * GROUP + i] + (w[g * 16 + i] >> 4) * x[g * GROUP + i + 16];
        least += of_float16(scales + 2 * g) * x_scales[g] * found;
        least += of_float16(scales + 2 * g + 1) * x_sums[g];
    }
#endif
    return least;
}

// output o of R rows -> y[r]; x_rounded: the same rows, for int4
void output(const Weight& w, long o, const float* x, const Rounded& x_rounded, long R, float* y) {
    if (w.kind == FLOAT32) products<Float32>(w.numbers, o, x, w.in, R, y);
    else if (w.kind == BFLOAT16) products<BFloat16>(w.numbers, o, x, w.in, R, y);
    else if (w.kind == INT8) products<Int8>(w.numbers, o, x, w.in, R, y);
    else {
        long groups = w.in / GROUP;
        for (long r = 0; r < R; r++)
            y[r] = product_of_int4((const uint8_t*)w.numbers + o * w.in / 2,
                                   (const uint16_t*)w.scales + o * groups * 2, &x_rounded.numbers[r * w.in],
                                   &x_rounded.scales[r * groups], &x_rounded.sums[r * groups], groups);
    }
    float scale = w.kind == INT8 ? of_bfloat16(((const uint16_t*)w.scales)[o]) : 1;
    for (long r = 0; r < R; r++) y[r] = y[r] * scale + (w.bias ? w.bias[o] : 0);
}

}  // namespace
