// A few rows through a frozen model's layers, on a CPU, one parallel region for all of them: what
// core/kernel.py compiles and calls.
#include "kernel_reading.h"

extern "C" {

// x (R, in) -> y (R, out)
void linear(const Weight* w, const float* x, int64_t R, float* y, int threads) {
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
void of_gguf(const uint8_t* blocks, int64_t n, int is_q4_1, float* y, int threads) {
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
void plain_layers(const Model* m, int64_t first, int64_t end, int64_t R, float* x, const float* cos,
                  const float* sin, const Kept* kept, int threads) {
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
void before_attention(const Model* m, int64_t layer, int64_t R, const float* x, float* heads, int threads) {
    Call c(*m, R);
#pragma omp parallel num_threads(threads)
    {
        Own own;
        before(c, own, m->layers[layer], x);
    }
    std::memcpy(heads, c.heads.data(), c.heads.size() * sizeof(float));
}

// what follows attention y (R, nh hs); x (R, C) in place
void after_attention(const Model* m, int64_t layer, int64_t R, const float* y, float* x, int threads) {
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
