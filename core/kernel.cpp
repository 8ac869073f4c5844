// A few rows through a frozen model's layers, on a CPU: each weight is read once, as it lies, and one
// parallel region serves all layers. core/kernel.py compiles it.
//
// R rows (of a batch), C n_embd, nh n_head, nkv key heads, hs head size; weights (out, in), a row an output.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <omp.h>
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
constexpr long CHUNK = 256;       // positions that one thread attends to at once
enum Kind { FLOAT32, BFLOAT16, INT8, INT4 };

extern "C" {
struct Weight { const void* numbers; const void* scales; const float* bias; int64_t kind, out, in; };
struct Layer {
    Weight attn, proj, fc, down;
    const float *ln_1, *ln_1_bias, *ln_2, *ln_2_bias, *q_norm, *k_norm;
};
struct Model {
    const Layer* layers;
    int64_t C, nh, nkv, hs, inner, rms, act;
    float epsilon;
};
// of one layer's cache: keys, then values, (R, 2 nkv, size, hs), of which `seen` rows of a head are there
struct Kept { float* rows; int64_t size, seen; };
// (R, heads, rows, hs), a row without gaps
struct Rows { void* first; int64_t of_batch, of_head; };
// What reader.py's Reader of select 'each' reads, of methods 1 to 3, and how; T tokens, the newest of S, M
// stored rows.
struct Read {
    Rows q, k, v, plain_q, plain_k, change, known, stored_keys, stored_values;
    const uint8_t* heads;             // (nh,), 1 for one that reads
    int64_t R, nh, nkv, hs, T, S, M, K, method;
    float memory_fraction, bookkeeping_fraction, scale, residual_fraction;
};
}

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
    return sign * (exponent ? std::ldexp(1024.0f + fraction, exponent - 25) : std::ldexp(float(fraction), -24));
#endif
}
float of_bfloat16(uint16_t x) { uint32_t bits = uint32_t(x) << 16; return load<float>(&bits); }

// ---- products ----

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
        least += of_float16(scales + 2 * g) * x_scales[g] * found + of_float16(scales + 2 * g + 1) * x_sums[g];
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

// ---- the rest of a layer ----

void norm(const float* x, const float* weight, const float* bias, long n, bool rms, float epsilon, float* y) {
    float mean = 0, square = 0;
    if (!rms) {
        for (long i = 0; i < n; i++) mean += x[i];
        mean /= n;
    }
    for (long i = 0; i < n; i++) square += (x[i] - mean) * (x[i] - mean);
    float inverse = 1 / std::sqrt(square / n + epsilon);
    for (long i = 0; i < n; i++) y[i] = (x[i] - mean) * inverse * weight[i] + (bias ? bias[i] : 0);
}

// MLP.act in model.py: 0 GELU by tanh, 1 GELU, 2 SiLU
float activated(float x, long act) {
    if (act == 0) return x / (1 + std::exp(-1.5957691216f * (x + 0.044715f * x * x * x)));
    if (act == 1) return 0.5f * x * (1 + std::erf(x * 0.70710678f));
    return x / (1 + std::exp(-x));
}

// x as from position 0, turned by cos and sin (hs), see core/rotary.py; no cos: learned positions
void turn(const float* x, const float* cos, const float* sin, long hs, float* y) {
    for (long i = 0, half = hs / 2; i < hs; i++)
        y[i] = cos ? x[i] * cos[i] + x[i < half ? i + half : i - half] * sin[i] : x[i];
}

struct Call {
    const Model& m;
    const long R, width;              // width: of queries, keys and values together
    const float *cos, *sin;
    std::vector<float> heads, inner, parts;

    Call(const Model& m, long R, const float* cos = nullptr, const float* sin = nullptr)
        : m(m), R(R), width((m.nh + 2 * m.nkv) * m.hs), cos(cos), sin(sin), heads(R * width),
          inner(R * m.inner) {}
};

long chunks_of(const Kept& kept) { return (kept.seen + CHUNK - 1) / CHUNK; }

// what each thread has of its own
struct Own {
    std::vector<float> h, y, scores;
    Rounded rounded;
    long first, end;

    void share(long n) {
        long threads = omp_get_num_threads(), t = omp_get_thread_num();
        first = n * t / threads, end = n * (t + 1) / threads;
    }
};

void normed(const Call& c, Own& own, const float* x, const float* weight, const float* bias,
            const Weight& next) {
    own.h.resize(c.R * c.m.C);
    for (long r = 0; r < c.R; r++)
        norm(x + r * c.m.C, weight, bias, c.m.C, c.m.rms, c.m.epsilon, &own.h[r * c.m.C]);
    if (next.kind == INT4) own.rounded.of(own.h.data(), c.R * c.m.C);
}

// queries, keys and values of x (R, C) -> c.heads (R, nh + 2 nkv, hs)
void before(Call& c, Own& own, const Layer& layer, const float* x) {
    normed(c, own, x, layer.ln_1, layer.ln_1_bias, layer.attn);
    own.share(c.width);
    float y[c.R];
    for (long o = own.first; o < own.end; o++) {
        output(layer.attn, o, own.h.data(), own.rounded, c.R, y);
        for (long r = 0; r < c.R; r++) c.heads[r * c.width + o] = y[r];
    }
#pragma omp barrier
}

// scores, times scale -> their exponents, less the largest, and the sum of these
void exponents(std::vector<float>& scores, float scale, float& largest, float& total) {
    largest = -INFINITY, total = 0;
    for (float score : scores) largest = std::max(largest, score * scale);
    for (float& score : scores) total += score = std::exp(score * scale - largest);
}

void softmax(std::vector<float>& scores, float scale) {
    float largest, total;
    exponents(scores, scale, largest, total);
    for (float& score : scores) score /= total;
}

// Attention in parts: of a row and key head, a chunk of positions at a time. A part is, of each query head,
// the largest score, the sum of exponents, and the weighted values; the last chunk takes the new token in.
void attend(Call& c, Own& own, const Layer& layer, const Kept& kept) {
    const Model& m = c.m;
    const long n = m.nh / m.nkv, hs = m.hs, chunks = chunks_of(kept);
    std::vector<float> q(n * hs), k(hs);
    own.share(c.R * m.nkv * chunks);
    for (long item = own.first; item < own.end; item++) {
        const long r = item / (m.nkv * chunks), g = item / chunks % m.nkv, chunk = item % chunks;
        const float* heads = &c.heads[r * c.width];
        float* keys = kept.rows + (r * 2 * m.nkv + g) * kept.size * hs;
        float* values = keys + m.nkv * kept.size * hs;
        const long first = chunk * CHUNK, end = std::min(first + CHUNK, long(kept.seen));
        auto turned = [&](long head, const float* weight, float* to) {
            const float* from = heads + head * hs;
            if (weight) norm(from, weight, nullptr, hs, m.rms, m.epsilon, k.data()), from = k.data();
            turn(from, c.cos, c.sin, hs, to);
        };
        for (long j = 0; j < n; j++) turned(g * n + j, layer.q_norm, &q[j * hs]);
        if (end == kept.seen) {
            turned(m.nh + g, layer.k_norm, keys + (end - 1) * hs);
            std::memcpy(values + (end - 1) * hs, heads + (m.nh + m.nkv + g) * hs, hs * sizeof(float));
        }
        own.scores.resize(end - first);
        for (long j = 0; j < n; j++) {
            float* to = &c.parts[(item * n + j) * (hs + 2)];
            products<Float32>(&q[j * hs], 0, keys + first * hs, hs, end - first, own.scores.data());
            exponents(own.scores, 1 / std::sqrt(float(hs)), to[0], to[1]);
            std::memset(to + 2, 0, hs * sizeof(float));
            add_weighted(own.scores.data(), values + first * hs, end - first, hs, to + 2);
        }
    }
#pragma omp barrier
}

// the parts put together (Dao et al. 2022, 3.1) -> own.y (R, nh hs)
void together(const Call& c, Own& own, long chunks) {
    const long n = c.m.nh / c.m.nkv, hs = c.m.hs;
    own.y.assign(c.R * c.m.nh * hs, 0);
    for (long head = 0; head < c.R * c.m.nh; head++) {
        auto part = [&](long chunk) {
            return &c.parts[((head / n * chunks + chunk) * n + head % n) * (hs + 2)];
        };
        float largest = -INFINITY, total = 0;
        for (long chunk = 0; chunk < chunks; chunk++) largest = std::fmax(largest, part(chunk)[0]);
        for (long chunk = 0; chunk < chunks; chunk++)
            total += part(chunk)[1] * std::exp(part(chunk)[0] - largest);
        for (long chunk = 0; chunk < chunks; chunk++) {
            const float* from = part(chunk);
            const float weight = std::exp(from[0] - largest) / total;
            for (long i = 0; i < hs; i++) own.y[head * hs + i] += weight * from[2 + i];
        }
    }
}

// x (R, C) += w y, y (R, w.in)
void add(Call& c, Own& own, const Weight& w, const float* y, float* x) {
    if (w.kind == INT4) own.rounded.of(y, c.R * w.in);
    own.share(c.m.C);
    float found[c.R];
    for (long o = own.first; o < own.end; o++) {
        output(w, o, y, own.rounded, c.R, found);
        for (long r = 0; r < c.R; r++) x[r * c.m.C + o] += found[r];
    }
#pragma omp barrier
}

// what follows attention y (R, nh hs), the same for each thread
void after(Call& c, Own& own, const Layer& layer, const float* y, float* x) {
    add(c, own, layer.proj, y, x);
    normed(c, own, x, layer.ln_2, layer.ln_2_bias, layer.fc);
    own.share(c.m.inner);
    float gate[c.R], up[c.R];
    for (long o = own.first; o < own.end; o++) {
        output(layer.fc, o, own.h.data(), own.rounded, c.R, gate);
        const bool gated = layer.fc.out > c.m.inner;
        if (gated) output(layer.fc, o + c.m.inner, own.h.data(), own.rounded, c.R, up);
        for (long r = 0; r < c.R; r++)
            c.inner[r * c.m.inner + o] = activated(gate[r], c.m.act) * (gated ? up[r] : 1);
    }
#pragma omp barrier
    add(c, own, layer.down, c.inner.data(), x);
}

// ---- reading a memory, reader.py's attend_each ----

template <class T> T* at(const Rows& rows, long r, long head, long row, long hs) {
    return (T*)rows.first + r * rows.of_batch + head * rows.of_head + row * hs;
}

float dot(const float* a, const float* b, long n) {
    float found;
    products<Float32, 1>(a, b, n, &found);
    return found;
}

template <class T> T squared_distance(const float* a, const float* b, long n) {
    T found = 0;
#pragma omp simd reduction(+ : found)
    for (long i = 0; i < n; i++) found += (T(a[i]) - T(b[i])) * (T(a[i]) - T(b[i]));
    return found;
}

// what is no number is the farthest
template <class T> T known(T distance) { return distance < INFINITY ? distance : INFINITY; }

struct LookUp {
    const Read& c;
    std::vector<float> distances, sorted, ranks;
    std::vector<std::pair<double, long>> near;  // of which the first K are nearest

    // the K stored keys nearest to key, exactly: what float32 can not tell from the K-th is ranked in float64
    void search(long g, const float* key) {
        distances.resize(c.M), near.clear();
        for (long n = 0; n < c.M; n++)
            distances[n] = known(squared_distance<float>(at<float>(c.stored_keys, 0, g, n, c.hs), key, c.hs));
        sorted = distances;
        std::nth_element(sorted.begin(), sorted.begin() + c.K - 1, sorted.end());
        const float enough = sorted[c.K - 1] * (1 + 4 * (c.hs + 3) * 0x1p-24f);
        for (long n = 0; n < c.M; n++)
            if (distances[n] <= enough) {
                const float* stored = at<float>(c.stored_keys, 0, g, n, c.hs);
                near.push_back({known(squared_distance<double>(stored, key, c.hs)), n});
            }
        std::partial_sort(near.begin(), near.begin() + c.K, near.end());
    }

    // v' - v of a token-head (Eq. 5)
    void operator()(long g, const float* query, const float* key, const float* value, float* change) {
        search(g, key);
        const bool itself = c.method != 2;  // the token is one more candidate
        ranks.resize(c.K + itself);
        for (long n = 0; n < c.K; n++)
            ranks[n] = dot(at<float>(c.stored_keys, 0, g, near[n].second, c.hs), query, c.hs);
        if (itself) ranks[c.K] = dot(key, query, c.hs);
        softmax(ranks, c.scale);
        const float share = c.method == 1 ? 1 : 1 - c.residual_fraction;
        const float own = itself ? ranks[c.K] : 0;
        for (long i = 0; i < c.hs; i++) change[i] = share * (own - 1) * value[i];
        for (long n = 0; n < c.K; n++) {
            const float* found = at<float>(c.stored_values, 0, g, near[n].second, c.hs);
            for (long i = 0; i < c.hs; i++) change[i] += share * ranks[n] * found[i];
        }
    }
};

}  // namespace

extern "C" {

// x (R, in) -> y (R, out)
void linear(const Weight* w, const float* x, long R, float* y, int threads) {
    Rounded rounded;
    if (w->kind == INT4) rounded.of(x, R * w->in);
#pragma omp parallel num_threads(threads)
    {
        Own own;
        own.share(w->out);
        float found[R];
        for (long o = own.first; o < own.end; o++) {
            output(*w, o, x, rounded, R, found);
            for (long r = 0; r < R; r++) y[r * w->out + o] = found[r];
        }
    }
}

// n blocks of GGUF's Q8_0, a scale and 32 numbers, or Q4_1, a scale, a least and 32 numbers as in int4
void of_gguf(const uint8_t* blocks, long n, int is_q4_1, float* y, int threads) {
    const long bytes = is_q4_1 ? 20 : 34;
#pragma omp parallel for num_threads(threads)
    for (long block = 0; block < n; block++) {
        const uint8_t* from = blocks + block * bytes;
        float* __restrict to = y + block * GROUP;  // bytes may else be anything, also what is written
        const float scale = of_float16(from), least = is_q4_1 ? of_float16(from + 2) : 0;
        if (is_q4_1)
            for (long i = 0; i < 16; i++) {
                to[i] = scale * (from[4 + i] & 15) + least;
                to[i + 16] = scale * (from[4 + i] >> 4) + least;
            }
        else
            for (long i = 0; i < GROUP; i++) to[i] = scale * int8_t(from[2 + i]);
    }
}

// the next token of R rows, x (R, C), through the layers [first, end), in place
void plain_layers(const Model* m, long first, long end, long R, float* x, const float* cos, const float* sin,
                  const Kept* kept, int threads) {
    Call c(*m, R, cos, sin);
    long most = 0;
    for (long layer = first; layer < end; layer++) most = std::max(most, chunks_of(kept[layer]));
    c.parts.resize(R * m->nh * most * (m->hs + 2));
#pragma omp parallel num_threads(threads)
    {
        Own own;
        for (long layer = first; layer < end; layer++) {
            before(c, own, m->layers[layer], x);
            attend(c, own, m->layers[layer], kept[layer]);
            together(c, own, chunks_of(kept[layer]));
            after(c, own, m->layers[layer], own.y.data(), x);
        }
    }
}

// a layer's queries, keys and values of x (R, C), (R, nh + 2 nkv, hs), as before norms of heads and rotation
void before_attention(const Model* m, long layer, long R, const float* x, float* heads, int threads) {
    Call c(*m, R);
#pragma omp parallel num_threads(threads)
    {
        Own own;
        before(c, own, m->layers[layer], x);
    }
    std::memcpy(heads, c.heads.data(), c.heads.size() * sizeof(float));
}

// what follows attention y (R, nh hs); x (R, C) in place
void after_attention(const Model* m, long layer, long R, const float* y, float* x, int threads) {
    Call c(*m, R);
#pragma omp parallel num_threads(threads)
    {
        Own own;
        after(c, own, m->layers[layer], y, x);
    }
}

// y (R, nh, T, hs); counts: token-heads picked, and looked up
void read_each(const Read* read, float* y, int64_t* counts, int threads) {
    const Read& c = *read;
    const float scale = 1 / std::sqrt(float(c.hs));
    int64_t picks = 0, searches = 0;
#pragma omp parallel num_threads(threads) reduction(+ : picks, searches)
    {
        LookUp look_up{c};
        std::vector<float> weights;
#pragma omp for schedule(dynamic)
        for (long item = 0; item < c.R * c.nh; item++)  // all tokens of a head: what one looks up others know
            for (long t = 0; t < c.T; t++) {
                const long r = item / c.nh, head = item % c.nh, g = head / (c.nh / c.nkv), hs = c.hs;
                const long S = c.S - c.T + t + 1;  // tokens that this one sees
                const float least = 1 / (c.memory_fraction * S);
                weights.resize(S);
                products<Float32>(at<float>(c.q, r, head, t, hs), 0, at<float>(c.k, r, g, 0, hs), hs, S,
                                  weights.data());
                softmax(weights, scale);
                float* to = y + (item * c.T + t) * hs;
                std::memset(to, 0, hs * sizeof(float));
                add_weighted(weights.data(), at<float>(c.v, r, g, 0, hs), S, hs, to);
                for (long j = 0; j < S; j++) {
                    const float weight = weights[j];
                    bool picked = c.heads[head] && c.memory_fraction > 0 && weight >= least;  // Eq. 4
                    if (j == 0)
                        picked = c.heads[head] && weight > c.bookkeeping_fraction
                                 && (picked || c.memory_fraction == 0);
                    if (!picked) continue;
                    picks++;
                    float* change = at<float>(c.change, r, head, j, hs);
                    uint8_t* known = at<uint8_t>(c.known, r, head, j, 1);
                    if (!*known) {
                        look_up(g, at<float>(c.plain_q, r, head, j, hs), at<float>(c.plain_k, r, g, j, hs),
                                at<float>(c.v, r, g, j, hs), change);
                        *known = 1, searches++;
                    }
                    for (long i = 0; i < hs; i++) to[i] += weight * change[i];
                }
            }
    }
    counts[0] = picks, counts[1] = searches;
}

}
