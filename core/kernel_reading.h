// Reading a memory: what reader.py's attend_each looks up, by methods 1 to 3.
#pragma once
#include "kernel_layers.h"

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

namespace {

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
