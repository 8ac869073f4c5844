// Reading a memory, see reader.py and extended.py: what is looked up by methods 1 to 3 for 'each', and by 4.
#pragma once
#include "kernel_products.h"

// (R, heads, rows, hs), a row without gaps
struct Rows { void* first; int64_t of_batch, of_head; };
// What one layer reads, and how: M stored rows. Of all tokens seen plain_q and plain_k, as before a rotation.
struct Read {
    Rows k, v, plain_q, plain_k, change, known, stored_keys, stored_values;
    const uint8_t* heads;             // (nh,), 1 for one that reads
    // of method 4: what a query of 'far' is turned by, (hs,), or null; the first `header` tokens, (header,
    // hs)
    const float *far_cos, *far_sin, *back_cos, *back_sin;
    int64_t nh, nkv, hs, M, K, method, header;
    float memory_fraction, bookkeeping_fraction, scale, residual_fraction;
    float longest;                    // norm of a stored key, by method 4 where K < M
};

namespace {

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

template <class T> T* at(const Rows& rows, long r, long head, long row, long hs) {
    return (T*)rows.first + r * rows.of_batch + head * rows.of_head + row * hs;
}

float dot(const float* a, const float* b, long n) {
    float found;
    products<Float32, 1>(a, b, n, &found);
    return found;
}

// the least is nearest: the squared distance, or the product below 0; what is no number is the farthest
template <class T> T distance(const float* a, const float* b, long n, bool by_product) {
    T found = 0;
    if (by_product) {
#pragma omp simd reduction(- : found)
        for (long i = 0; i < n; i++) found -= T(a[i]) * T(b[i]);
    } else {
#pragma omp simd reduction(+ : found)
        for (long i = 0; i < n; i++) found += (T(a[i]) - T(b[i])) * (T(a[i]) - T(b[i]));
    }
    return found < INFINITY ? found : INFINITY;
}

struct LookUp {
    const Read& c;
    std::vector<float> distances, least, ranks;
    std::vector<std::pair<double, long>> near;  // of which the first K are nearest to `asked`
    const float* asked = nullptr;

    // of the distances
    float kth_least() {
        least.assign(distances.begin(), distances.begin() + c.K);
        std::make_heap(least.begin(), least.end());
        for (long n = c.K; n < c.M; n++)
            if (distances[n] < least.front()) {
                std::pop_heap(least.begin(), least.end());
                least.back() = distances[n];
                std::push_heap(least.begin(), least.end());
            }
        return least.front();
    }

    // the K stored keys nearest to x, exactly: what float32 can not tell from the K-th is ranked in float64
    void search(long g, const float* x) {
        const bool by_product = c.method == 4;
        distances.resize(c.M), near.clear();
        for (long n = 0; n < c.M; n++)
            distances[n] = distance<float>(at<float>(c.stored_keys, 0, g, n, c.hs), x, c.hs, by_product);
        const float last = kth_least(), most = by_product ? std::sqrt(dot(x, x, c.hs)) * c.longest : last;
        const float enough = last + 4 * (c.hs + 3) * 0x1p-24f * most;
        for (long n = 0; n < c.M; n++)
            if (!(distances[n] > enough)) {  // also where that is no number
                const float* stored = at<float>(c.stored_keys, 0, g, n, c.hs);
                near.push_back({distance<double>(stored, x, c.hs, by_product), n});
            }
        std::partial_sort(near.begin(), near.begin() + c.K, near.end());
    }

    // of method 4: the largest score of the K, the sum of exponents, the weighted values (hs)
    void part(long g, const float* query, float* to) {
        search(g, query);
        ranks.resize(c.K);
        for (long n = 0; n < c.K; n++) ranks[n] = -near[n].first;
        exponents(ranks, c.scale, to[0], to[1]);
        std::memset(to + 2, 0, c.hs * sizeof(float));
        for (long n = 0; n < c.K; n++)
            add_weighted(&ranks[n], at<float>(c.stored_values, 0, g, near[n].second, c.hs), 1, c.hs, to + 2);
    }

    // v' - v of a token-head (Eq. 5)
    void operator()(long g, const float* query, const float* key, const float* value, float* change) {
        if (key != asked) search(g, key), asked = key;  // query heads share a key
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

// How many heads, one or all of a key head, one thread best takes: together they search once.
long heads_together(const Read& read, long R, long S, long threads) {
    auto cost = [&](long n) { return (R * read.nh / n + threads - 1) / threads * (2 * n * S + read.M); };
    const long n = read.nh / read.nkv;
    return cost(n) < cost(1) ? n : 1;
}

// Of methods 1 to 3 what one token attends to: it picks, looks up what is not known, and blends.
struct Row {
    const Read& c;
    LookUp look_up{c};
    std::vector<float> weights;
    int64_t picks = 0, searches = 0;

    // the newest of S tokens, its query q (hs) -> y (hs)
    void operator()(long r, long head, const float* q, long S, float* y) {
        const long g = head / (c.nh / c.nkv), hs = c.hs;
        const float least = 1 / (c.memory_fraction * S);
        weights.resize(S);
        products<Float32>(q, 0, at<float>(c.k, r, g, 0, hs), hs, S, weights.data());
        softmax(weights, 1 / std::sqrt(float(hs)));
        std::memset(y, 0, hs * sizeof(float));
        add_weighted(weights.data(), at<float>(c.v, r, g, 0, hs), S, hs, y);
        for (long j = 0; j < S && c.heads[head]; j++) {
            const float weight = weights[j];
            bool picked = c.memory_fraction > 0 && weight >= least;  // Eq. 4
            if (j == 0) picked = weight > c.bookkeeping_fraction && (picked || c.memory_fraction == 0);
            if (!picked) continue;
            picks++;
            float* change = at<float>(c.change, r, head, j, hs);
            uint8_t* known = at<uint8_t>(c.known, r, head, j, 1);
            if (!*known) {
                look_up(g, at<float>(c.plain_q, r, head, j, hs), at<float>(c.plain_k, r, g, j, hs),
                        at<float>(c.v, r, g, j, hs), change);
                *known = 1, searches++;
            }
            for (long i = 0; i < hs; i++) y[i] += weight * change[i];
        }
    }

    void count(int64_t* counts) {
#pragma omp atomic
        counts[0] += picks;
#pragma omp atomic
        counts[1] += searches;
    }
};

}  // namespace
