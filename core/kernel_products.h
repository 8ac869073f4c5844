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
uint16_t to_bfloat16(float x) {  // of finite numbers
    uint32_t bits = load<uint32_t>(&x);
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

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

// Groups of int4 that are multiplied at once: a byte holds numbers i and i + 16 of a group, so that 16 bytes
// of each group meet the first halves of so many groups of inputs, and then the second.
#if defined(__AVX512VNNI__) && defined(__AVX512VL__) && defined(__AVX512BW__)
constexpr long TOGETHER = 4;
#elif defined(__AVX2__) && defined(__F16C__) && defined(__FMA__)
constexpr long TOGETHER = 2;
#else
constexpr long TOGETHER = 1;
#endif
constexpr long SCALES = 16;       // of which so many are read at once

Ints nearest(Floats x) {
#if defined(__AVX2__)
    return (Ints)_mm256_cvtps_epi32((__m256)x);
#else
    Ints found;
    for (long i = 0; i < LANES; i++) found[i] = std::nearbyint(x[i]);
    return found;
#endif
}

// Inputs as int4's products take them: int8 numbers, of each group their scale, and the sum of the inputs. Of
// groups that are multiplied together first one half of each and then the other; zeros where a row ends.
struct Rounded {
    std::vector<int8_t> numbers;
    std::vector<float> scales, sums;
    long of_row, scales_of_row;

    void of(const float* x, long R, long in) {
        const long groups = in / GROUP;
        of_row = (groups + TOGETHER - 1) / TOGETHER * TOGETHER * GROUP;
        scales_of_row = (groups + SCALES - 1) / SCALES * SCALES;
        numbers.assign(R * of_row, 0), scales.assign(R * scales_of_row, 0), sums.assign(R * scales_of_row, 0);
        for (long r = 0; r < R; r++)
            for (long g = 0; g < groups; g++, x += GROUP) {
                Floats largest = {}, total = {};
                for (long i = 0; i < GROUP; i += LANES) {
                    const Floats some = load<Floats>(x + i), size = some < 0 ? -some : some;
                    largest = largest > size ? largest : size, total += some;
                }
                float most = 0;
                for (long i = 0; i < LANES; i++) most = std::max(most, largest[i]);
                const float inverse = most > 0 ? 127 / most : 0;
                int8_t* to = &numbers[r * of_row + g / TOGETHER * TOGETHER * GROUP + g % TOGETHER * 16];
                for (long i = 0; i < GROUP; i += LANES) {
                    const Bytes some = __builtin_convertvector(nearest(load<Floats>(x + i) * inverse), Bytes);
                    std::memcpy(to + i / 16 * 16 * TOGETHER + i % 16, &some, sizeof some);
                }
                scales[r * scales_of_row + g] = most / 127, sums[r * scales_of_row + g] = sum(total);
            }
    }
};

// an output: groups of bytes, their scales, then their leasts; a number's value is number * scale + least
float product_of_int4(const uint8_t* w, const uint16_t* scales, const int8_t* x, const float* x_scales,
                      const float* x_sums, long groups) {
#if defined(__AVX512VNNI__) && defined(__AVX512VL__) && defined(__AVX512BW__)
    const __m512i low = _mm512_set1_epi8(15), fours = _mm512_set1_epi32(4);
    __m512 total = _mm512_setzero_ps();
    for (long first = 0; first < groups; first += SCALES) {
        const long n = std::min(SCALES, groups - first);
        auto halves = [&](const uint16_t* at) {
            return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16((1u << n) - 1, at + first));
        };
        const __m512 scale = _mm512_mul_ps(halves(scales), _mm512_loadu_ps(x_scales + first));
        total = _mm512_fmadd_ps(halves(scales + groups), _mm512_loadu_ps(x_sums + first), total);
        __m512i each = _mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0);
        for (long g = 0; g < n; g += TOGETHER, each = _mm512_add_epi32(each, fours)) {
            const __mmask16 there = (1u << 4 * std::min(TOGETHER, n - g)) - 1;
            const __m512i bytes = _mm512_maskz_loadu_epi32(there, w + (first + g) * 16);
            const __m512i high = _mm512_and_si512(_mm512_srli_epi16(bytes, 4), low);
            const int8_t* inputs = x + (first + g) * GROUP;
            __m512i found = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_and_si512(bytes, low),
                                                _mm512_loadu_si512(inputs));
            found = _mm512_dpbusd_epi32(found, high, _mm512_loadu_si512(inputs + 64));
            total = _mm512_fmadd_ps(_mm512_cvtepi32_ps(found), _mm512_permutexvar_ps(each, scale), total);
        }
    }
    return _mm512_reduce_add_ps(total);
#elif defined(__AVX2__) && defined(__F16C__) && defined(__FMA__)
    const __m256i low = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
    __m256 total = _mm256_setzero_ps();
    for (long first = 0; first < groups; first += 8) {
        const long n = std::min(8l, groups - first);
        auto halves = [&](const uint16_t* at) {
            if (n == 8) return _mm256_cvtph_ps(load<__m128i>(at + first));
            uint16_t some[8] = {};
            for (long i = 0; i < n; i++) some[i] = at[first + i];
            return _mm256_cvtph_ps(load<__m128i>(some));
        };
        const __m256 scale = _mm256_mul_ps(halves(scales), _mm256_loadu_ps(x_scales + first));
        total = _mm256_fmadd_ps(halves(scales + groups), _mm256_loadu_ps(x_sums + first), total);
        __m256i each = _mm256_set_epi32(1, 1, 1, 1, 0, 0, 0, 0);
        for (long g = 0; g < n; g += TOGETHER, each = _mm256_add_epi32(each, _mm256_set1_epi32(2))) {
            const uint8_t* at = w + (first + g) * 16;
            const __m256i bytes = n - g > 1 ? load<__m256i>(at) : _mm256_zextsi128_si256(load<__m128i>(at));
            const __m256i high = _mm256_and_si256(_mm256_srli_epi16(bytes, 4), low);
            const int8_t* inputs = x + (first + g) * GROUP;
            const __m256i found = _mm256_add_epi16(
                _mm256_maddubs_epi16(_mm256_and_si256(bytes, low), load<__m256i>(inputs)),
                _mm256_maddubs_epi16(high, load<__m256i>(inputs + 32)));  // each at most 2 * 2 * 15 * 127
            total = _mm256_fmadd_ps(_mm256_cvtepi32_ps(_mm256_madd_epi16(found, ones)),
                                    _mm256_permutevar8x32_ps(scale, each), total);
        }
    }
    return sum((Floats)total);
#else
    float total = 0;
    for (long g = 0; g < groups; g++) {
        int32_t found = 0;
        for (long i = 0; i < 16; i++)
            found += (w[g * 16 + i] & 15) * x[g * GROUP + i] + (w[g * 16 + i] >> 4) * x[g * GROUP + i + 16];
        total += of_float16(scales + g) * x_scales[g] * found + of_float16(scales + groups + g) * x_sums[g];
    }
    return total;
#endif
}

// output o of R rows -> y[r]; x_rounded: the same rows, for int4
void output(const Weight& w, long o, const float* x, const Rounded& x_rounded, long R, float* y) {
    if (w.kind == FLOAT32) products<Float32>(w.numbers, o, x, w.in, R, y);
    else if (w.kind == BFLOAT16) products<BFloat16>(w.numbers, o, x, w.in, R, y);
    else if (w.kind == INT8) products<Int8>(w.numbers, o, x, w.in, R, y);
    else {
        const long groups = w.in / GROUP;
        for (long r = 0; r < R; r++)
            y[r] = product_of_int4((const uint8_t*)w.numbers + o * w.in / 2,
                                   (const uint16_t*)w.scales + o * groups * 2,
                                   &x_rounded.numbers[r * x_rounded.of_row],
                                   &x_rounded.scales[r * x_rounded.scales_of_row],
                                   &x_rounded.sums[r * x_rounded.scales_of_row], groups);
    }
    float scale = w.kind == INT8 ? of_bfloat16(((const uint16_t*)w.scales)[o]) : 1;
    for (long r = 0; r < R; r++) y[r] = y[r] * scale + (w.bias ? w.bias[o] : 0);
}

}  // namespace
