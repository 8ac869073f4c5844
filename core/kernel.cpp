// A few rows through a frozen model's layers, on a CPU, one parallel region for all of them: what
// core/kernel.py compiles and calls.
#include "kernel_layers.h"

extern "C" {

// x (R, in) -> y (R, out)
void linear(const Weight* w, const float* x, int64_t R, float* y, int threads) {
#pragma omp parallel num_threads(threads)
    {
        Own own;
        outputs(*w, own, x, R, [&](long o, const float* found) {
            for (long r = 0; r < R; r++) y[r * w->out + o] = found[r];
        });
    }
}

// int8 or int4 weights -> the numbers that they stand for, bfloat16 (out, in)
void widened(const Weight* w, uint16_t* y, int threads) {
    const long groups = w->in / GROUP;
#pragma omp parallel for num_threads(threads)
    for (long o = 0; o < w->out; o++) {
        uint16_t* __restrict to = y + o * w->in;
        if (w->kind == INT8) {
            const int8_t* from = (const int8_t*)w->numbers + o * w->in;
            const float scale = of_bfloat16(((const uint16_t*)w->scales)[o]);
            for (long i = 0; i < w->in; i++) to[i] = to_bfloat16(scale * from[i]);
            continue;
        }
        const uint16_t* scales = (const uint16_t*)w->scales + o * groups * 2;
        for (long g = 0; g < groups; g++, to += GROUP) {
            const uint8_t* from = (const uint8_t*)w->numbers + (o * groups + g) * 16;
            const float scale = of_float16(scales + g), least = of_float16(scales + groups + g);
            for (long i = 0; i < 16; i++) {
                to[i] = to_bfloat16(scale * (from[i] & 15) + least);
                to[i + 16] = to_bfloat16(scale * (from[i] >> 4) + least);
            }
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

// the next token of R rows, x (R, C), through all layers and ln_f, in place; end: how many tokens there are
// with it; counts (n_layer, 2): token-heads picked, and looked up, by methods 1 to 3
void step(const Model* m, int64_t R, int64_t end, float* x, const float* cos, const float* sin,
          const Kept* kept, int64_t* counts, int threads) {
    Call c(*m, R, end, cos, sin);
    long most = 0;
    for (long layer = 0; layer < m->n_layer; layer++) most = std::max(most, chunks_of(c, kept[layer]));
    c.parts.resize(R * m->nh * most * (m->hs + 2));
#pragma omp parallel num_threads(threads)
    {
        Own own;
        for (long layer = 0; layer < m->n_layer; layer++) {
            const Read* read = kept[layer].read;
            before(c, own, m->layers[layer], x);
            place(c, own, m->layers[layer], kept[layer]);
            if (read && read->method < 4) {
                read_rows(c, kept[layer], counts + 2 * layer);
                after(c, own, m->layers[layer], c.y.data(), x);
            } else {
                if (read) attend_stored(c, own, kept[layer]);
                attend(c, own, kept[layer]);
                together(c, own, chunks_of(c, kept[layer]));
                after(c, own, m->layers[layer], own.y.data(), x);
            }
        }
#pragma omp for
        for (long r = 0; r < R; r++)
            norm(x + r * m->C, m->ln_f, m->ln_f_bias, m->C, m->rms, m->epsilon, x + r * m->C);
    }
}

// of T tokens, the newest of S, all heads q -> y (R, nh, T, hs); counts: token-heads picked, and looked up
void read_each(const Read* read, int64_t R, int64_t T, int64_t S, const float* q, float* y, int64_t* counts,
               int threads) {
    const long hs = read->hs;
#pragma omp parallel num_threads(threads)
    {
        Row row{*read};
        const long n = heads_together(*read, R, S, omp_get_num_threads());
#pragma omp for schedule(dynamic)
        for (long first = 0; first < R * read->nh; first += n)  // all tokens: what one looks up others know
            for (long t = 0; t < T; t++)
                for (long item = first; item < first + n; item++) {
                    const long at_row = (item * T + t) * hs;
                    row(item / read->nh, item % read->nh, q + at_row, S - T + t + 1, y + at_row);
                }
        row.count(counts);
    }
}

}
