// A layer of the model but for its products: norms, rotation, attention, activation, for one new token of R
// rows. Letters as in model.py.
#pragma once
#include "kernel_reading.h"
#include <omp.h>

constexpr long CHUNK = 256;       // positions that one thread attends to at once

struct Layer {
    Weight attn, proj, fc, down;
    const float *ln_1, *ln_1_bias, *ln_2, *ln_2_bias, *q_norm, *k_norm;
};
struct Model {
    const Layer* layers;
    const float *ln_f, *ln_f_bias;
    int64_t n_layer, C, nh, nkv, hs, inner, rms, act;
    float epsilon;
};
// of one layer's cache: keys, then values, (R, 2 nkv, size, hs), `before` rows of a head before the tokens'
// own; and what the layer reads, or null
struct Kept { float* rows; int64_t size, before; const Read* read; };

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
    const long R, end, width;         // end: tokens with this one; width: queries, keys and values together
    const float *cos, *sin;
    std::vector<float> heads, q, asked, y, inner, parts;

    Call(const Model& m, long R, long end, const float* cos, const float* sin)
        : m(m), R(R), end(end), width((m.nh + 2 * m.nkv) * m.hs), cos(cos), sin(sin), heads(R * width),
          q(R * m.nh * m.hs), asked(q), y(q), inner(R * m.inner) {}
};

// of method 4's stored rows, and of a layer's own: a part of attention each
long stored_chunks(const Read* read) {
    if (!read || read->method != 4) return 0;
    return read->K < read->M ? 1 : (read->M + CHUNK - 1) / CHUNK;
}
long own_chunks(const Call& c, const Kept& kept) { return (kept.before + c.end + CHUNK - 1) / CHUNK; }
long chunks_of(const Call& c, const Kept& kept) { return own_chunks(c, kept) + stored_chunks(kept.read); }

// what each thread has of its own
struct Own {
    std::vector<float> h, y, scores, back;
    Rounded rounded;
    long first, end;

    void share(long n) {
        long threads = omp_get_num_threads(), t = omp_get_thread_num();
        first = n * t / threads, end = n * (t + 1) / threads;
    }
};

// this thread's outputs of x (R, w.in): put(number, y), y (R)
template <class Put> void outputs(const Weight& w, Own& own, const float* x, long R, Put put) {
    if (w.kind == INT4) own.rounded.of(x, R, w.in);
    own.share(w.out);
    float y[R];
    for (long o = own.first; o < own.end; o++) {
        output(w, o, x, own.rounded, R, y);
        put(o, y);
    }
}

const float* normed(const Call& c, Own& own, const float* x, const float* weight, const float* bias) {
    own.h.resize(c.R * c.m.C);
    for (long r = 0; r < c.R; r++)
        norm(x + r * c.m.C, weight, bias, c.m.C, c.m.rms, c.m.epsilon, &own.h[r * c.m.C]);
    return own.h.data();
}

// queries, keys and values of x (R, C) -> c.heads (R, nh + 2 nkv, hs)
void before(Call& c, Own& own, const Layer& layer, const float* x) {
    const float* h = normed(c, own, x, layer.ln_1, layer.ln_1_bias);
    outputs(layer.attn, own, h, c.R, [&](long o, const float* y) {
        for (long r = 0; r < c.R; r++) c.heads[r * c.width + o] = y[r];
    });
#pragma omp barrier
}

// the new token's heads: keys and values into the cache, queries into c.q, each turned to its position
void place(Call& c, Own& own, const Layer& layer, const Kept& kept) {
    const Model& m = c.m;
    const long hs = m.hs, last = kept.before + c.end - 1;
    const Read* read = kept.read;
    float plain[hs];
    auto turned = [&](const float* from, const float* weight, float* to) {
        if (weight) norm(from, weight, nullptr, hs, m.rms, m.epsilon, plain);
        else std::memcpy(plain, from, hs * sizeof(float));
        turn(plain, c.cos, c.sin, hs, to);
    };
    own.share(c.R * (m.nh + m.nkv));
    for (long item = own.first; item < own.end; item++) {
        const long r = item / (m.nh + m.nkv), head = item % (m.nh + m.nkv), g = head - m.nh;
        const float* from = &c.heads[r * c.width + head * hs];
        if (head < m.nh) {
            float* asked = &c.asked[(r * m.nh + head) * hs];
            turned(from, layer.q_norm, &c.q[(r * m.nh + head) * hs]);
            if (!read) continue;
            if (read->plain_q.first)
                std::memcpy(at<float>(read->plain_q, r, head, c.end - 1, hs), plain, hs * sizeof(float));
            if (read->far_cos) turn(plain, read->far_cos, read->far_sin, hs, asked);
            else std::memcpy(asked, &c.q[(r * m.nh + head) * hs], hs * sizeof(float));
        } else {
            float* key = kept.rows + ((r * 2 * m.nkv + g) * kept.size + last) * hs;
            turned(from, layer.k_norm, key);
            std::memcpy(key + m.nkv * kept.size * hs, from + m.nkv * hs, hs * sizeof(float));
            if (read) std::memcpy(at<float>(read->plain_k, r, g, c.end - 1, hs), plain, hs * sizeof(float));
        }
    }
#pragma omp barrier
}

// A part of attention: scores of rows -> the largest, the sum of exponents, the weighted values.
void part_of(std::vector<float>& scores, float scale, const float* values, long hs, float* to) {
    exponents(scores, scale, to[0], to[1]);
    std::memset(to + 2, 0, hs * sizeof(float));
    add_weighted(scores.data(), values, scores.size(), hs, to + 2);
}

// Attention in parts, see part_of: of a row and key head, a chunk of positions at a time, for each query
// head.
void attend(Call& c, Own& own, const Kept& kept) {
    const Model& m = c.m;
    const long n = m.nh / m.nkv, hs = m.hs, chunks = own_chunks(c, kept), before = stored_chunks(kept.read);
    own.share(c.R * m.nkv * chunks);
    for (long item = own.first; item < own.end; item++) {
        const long r = item / (m.nkv * chunks), g = item / chunks % m.nkv, chunk = item % chunks;
        const float* keys = kept.rows + (r * 2 * m.nkv + g) * kept.size * hs;
        const float* values = keys + m.nkv * kept.size * hs;
        const long first = chunk * CHUNK, end = std::min(first + CHUNK, long(kept.before + c.end));
        const long moved = kept.read ? std::min(long(kept.read->header), end) - first : 0;
        own.scores.resize(end - first), own.back.resize(std::max(0l, moved) * hs);
        for (long j = 0; j < moved; j++) {
            const long at_angle = (first + j) * hs;
            turn(at<float>(kept.read->plain_k, r, g, first + j, hs), kept.read->back_cos + at_angle,
                 kept.read->back_sin + at_angle, hs, &own.back[j * hs]);
        }
        for (long j = 0; j < n; j++) {
            const long head = g * n + j;
            const float* q = &c.q[(r * m.nh + head) * hs];
            products<Float32>(q, 0, keys + first * hs, hs, end - first, own.scores.data());
            if (moved > 0 && kept.read->heads[head])  // others see no text
                products<Float32>(q, 0, own.back.data(), hs, moved, own.scores.data());
            part_of(own.scores, 1 / std::sqrt(float(hs)), values + first * hs, hs,
                    &c.parts[(((r * m.nkv + g) * (before + chunks) + before + chunk) * n + j) * (hs + 2)]);
        }
    }
}

// Method 4's parts: of a row and query head, a chunk of the stored rows, or of all the K of largest product.
void attend_stored(Call& c, Own& own, const Kept& kept) {
    const Model& m = c.m;
    const Read& read = *kept.read;
    const long n = m.nh / m.nkv, hs = m.hs, chunks = stored_chunks(kept.read), all = chunks_of(c, kept);
    LookUp look_up{read};
#pragma omp for schedule(dynamic) nowait
    for (long item = 0; item < c.R * m.nkv * chunks * n; item++) {
        const long r = item / (m.nkv * chunks * n), g = item / (chunks * n) % m.nkv;
        const long chunk = item / n % chunks, head = g * n + item % n;
        float* to = &c.parts[(((r * m.nkv + g) * all + chunk) * n + item % n) * (hs + 2)];
        const float* q = &c.asked[(r * m.nh + head) * hs];
        if (!read.heads[head]) {
            to[0] = -INFINITY;
            std::memset(to + 1, 0, (hs + 1) * sizeof(float));
        } else if (read.K < read.M) {
            look_up.part(g, q, to);
        } else {
            const long first = chunk * CHUNK, end = std::min(first + CHUNK, long(read.M));
            own.scores.resize(end - first);
            products<Float32>(q, 0, at<float>(read.stored_keys, r, g, first, hs), hs, end - first,
                              own.scores.data());
            part_of(own.scores, read.scale, at<float>(read.stored_values, r, g, first, hs), hs, to);
        }
    }
}

// the parts put together (Dao et al. 2022, 3.1) -> own.y (R, nh hs)
void together(const Call& c, Own& own, long chunks) {
#pragma omp barrier
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
    outputs(w, own, y, c.R, [&](long o, const float* found) {
        for (long r = 0; r < c.R; r++) x[r * c.m.C + o] += found[r];
    });
#pragma omp barrier
}

// methods 1 to 3 -> c.y (R, nh hs); of counts two numbers get picks and searches added
void read_rows(Call& c, const Kept& kept, int64_t* counts) {
    const Model& m = c.m;
    const long hs = m.hs;
    Row row{*kept.read};
    const long n = heads_together(*kept.read, c.R, c.end, omp_get_num_threads());
#pragma omp for schedule(dynamic, n)
    for (long item = 0; item < c.R * m.nh; item++)
        row(item / m.nh, item % m.nh, &c.q[item * hs], c.end, &c.y[item * hs]);
    row.count(counts);
}

// what follows attention y (R, nh hs)
void after(Call& c, Own& own, const Layer& layer, const float* y, float* x) {
    add(c, own, layer.proj, y, x);
    const float* h = normed(c, own, x, layer.ln_2, layer.ln_2_bias);
    if (layer.fc.kind == INT4) own.rounded.of(h, c.R, c.m.C);
    own.share(c.m.inner);
    float gate[c.R], up[c.R];
    for (long o = own.first; o < own.end; o++) {
        output(layer.fc, o, h, own.rounded, c.R, gate);
        const bool gated = layer.fc.out > c.m.inner;
        if (gated) output(layer.fc, o + c.m.inner, h, own.rounded, c.R, up);
        for (long r = 0; r < c.R; r++)
            c.inner[r * c.m.inner + o] = activated(gate[r], c.m.act) * (gated ? up[r] : 1);
    }
#pragma omp barrier
    add(c, own, layer.down, c.inner.data(), x);
}

}  // namespace
