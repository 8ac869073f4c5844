// A layer of the model but for its products: norms, rotation, attention, activation, for one new token of R
// rows. Letters as in model.py.
#pragma once
#include "kernel_products.h"
#include <omp.h>

constexpr long CHUNK = 256;       // positions that one thread attends to at once

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

namespace {

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

}  // namespace
