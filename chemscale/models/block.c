/* What stands between the matrix products of a transformer's block in training, forward and backward.
 *
 * HEADS, HEAD (width of one head) and ROOM (tokens of the longest string, a multiple of 8) are set by the compiler's
 * command line, so that inner loops have a known length and a string of one head stays in the nearest cache. Shares of
 * attention are not kept: the backward pass makes them again from the logarithm of their sum (Dao et al. 2022).
 *
 * Shapes: projected and its gradient (tokens, 3, HEADS, HEAD): query, key, value; mixed (tokens, HEADS, HEAD); sums
 * (tokens, HEADS); starts (strings + 1,): where each string begins. Strings from `first` on, before `last`.
 */
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "exponential.h"

#define WIDTH (HEADS * HEAD)
#define BLOCKS (ROOM / 8)
#define PARTS ((HEAD + 7) / 8)
#define ROWS 8 /* queries that share what is read of keys and values */

typedef float Vector __attribute__((vector_size(32), may_alias));

/* One head of one string, (length, HEAD), upright, (HEAD, ROOM), and as rows of whole vectors; the rest is nought. */
static inline void turned(Vector upright[HEAD][BLOCKS], Vector rows[ROOM][PARTS], const float *from, int64_t stride,
                          int64_t length, int64_t whole)
{
    for (int64_t t = 0; t < whole; t++)
        for (int p = 0; p < PARTS; p++)
            for (int k = 0; k < 8; k++)
                rows[t][p][k] = t < length && 8 * p + k < HEAD ? from[t * stride + 8 * p + k] : 0.0f;
    for (int d = 0; d < HEAD; d++)
        for (int64_t t = 0; t < whole; t++) upright[d][t / 8][t % 8] = t < length ? from[t * stride + d] : 0.0f;
}

/* rows (ROWS, HEAD) times columns (HEAD, ROOM), up to a block of columns. */
static inline void products(Vector made[ROWS][BLOCKS], float rows[ROWS][HEAD], Vector columns[HEAD][BLOCKS], int64_t end)
{
    for (int64_t t = 0; t < end; t++) {
        Vector sum[ROWS] = {{0.0f}};
        for (int d = 0; d < HEAD; d++)
            for (int r = 0; r < ROWS; r++) sum[r] += rows[r][d] * columns[d][t];
        for (int r = 0; r < ROWS; r++) made[r][t] = sum[r];
    }
}

/* shares (ROWS, ROOM) times rows (ROOM, HEAD), up to a block of rows. */
static inline void mixtures(Vector made[ROWS][PARTS], Vector shares[ROWS][BLOCKS], Vector rows[ROOM][PARTS], int64_t end)
{
    for (int p = 0; p < PARTS; p++) {
        Vector even[ROWS] = {{0.0f}}, odd[ROWS] = {{0.0f}}; /* sums that need not wait for one another */
        for (int64_t t = 0; t < end; t++)
            for (int k = 0; k < 8; k += 2)
                for (int r = 0; r < ROWS; r++) {
                    even[r] += ((float *)&shares[r][t])[k] * rows[8 * t + k][p];
                    odd[r] += ((float *)&shares[r][t])[k + 1] * rows[8 * t + k + 1][p];
                }
        for (int r = 0; r < ROWS; r++) made[r][p] = even[r] + odd[r];
    }
}

/* columns (HEAD, ROOM) += shares (ROWS, ROOM), turned, times rows (ROWS, HEAD). */
static inline void spread(Vector columns[HEAD][BLOCKS], Vector shares[ROWS][BLOCKS], float rows[ROWS][HEAD], int64_t end)
{
    for (int64_t t = 0; t < end; t++) {
        Vector share[ROWS];
        for (int r = 0; r < ROWS; r++) share[r] = shares[r][t];
        for (int d = 0; d < HEAD; d++) {
            Vector sum = columns[d][t];
            for (int r = 0; r < ROWS; r++) sum += share[r] * rows[r][d];
            columns[d][t] = sum;
        }
    }
}

/* ROWS queries from a token on; those behind the string's end are nought. */
static inline void taken(float made[ROWS][HEAD], const float *rows, int64_t stride, int64_t at, int64_t length,
                         float scale)
{
    for (int r = 0; r < ROWS; r++)
        for (int d = 0; d < HEAD; d++) made[r][d] = at + r < length ? rows[(at + r) * stride + d] * scale : 0.0f;
}

/* What a query does not see: keys behind it, and those `window` or more before it. */
static inline void hide(float *logits, int64_t query, int64_t end, int64_t window)
{
    for (int64_t t = query + 1; t < end; t++) logits[t] = -FLT_MAX;
    for (int64_t t = 0; t <= query - window; t++) logits[t] = -FLT_MAX;
}

void attend(int64_t first, int64_t last, const float *restrict projected, const int64_t *restrict starts,
            float *restrict mixed, float *restrict sums, int64_t window, float scale)
{
    Vector keys[HEAD][BLOCKS], rows[ROOM][PARTS], shares[ROWS][BLOCKS], made[ROWS][PARTS];
    float queries[ROWS][HEAD];
    for (int64_t s = first; s < last; s++)
        for (int h = 0; h < HEADS; h++) {
            const int64_t length = starts[s + 1] - starts[s], blocks = (length + 7) / 8;
            const float *query = projected + starts[s] * 3 * WIDTH + h * HEAD;
            turned(keys, rows, query + WIDTH, 3 * WIDTH, length, 8 * blocks);
            for (int64_t t = 0; t < 8 * blocks; t++)
                for (int d = 0; d < HEAD; d++)
                    ((float *)rows[t])[d] = t < length ? query[t * 3 * WIDTH + 2 * WIDTH + d] : 0.0f;
            for (int64_t at = 0; at < length; at += ROWS) {
                const int64_t end = at + ROWS < length ? at + ROWS : length, whole = (end + 7) / 8;
                taken(queries, query, 3 * WIDTH, at, length, scale);
                products(shares, queries, keys, whole);
                float total[ROWS], most[ROWS];
                for (int r = 0; r < ROWS; r++) {
                    float *share = (float *)shares[r], top = -FLT_MAX, sum = 0.0f;
                    hide(share, at + r, 8 * whole, window);
                    for (int64_t t = 0; t < 8 * whole; t++) top = share[t] > top ? share[t] : top;
                    for (int64_t t = 0; t < 8 * whole; t++) share[t] = exponential(share[t] - top);
                    for (int64_t t = 0; t < 8 * whole; t++) sum += share[t];
                    most[r] = top, total[r] = sum;
                }
                mixtures(made, shares, rows, whole);
                for (int64_t r = 0; r < end - at; r++) {
                    const int64_t token = starts[s] + at + r;
                    const float part = 1.0f / total[r];
                    for (int d = 0; d < HEAD; d++) mixed[token * WIDTH + h * HEAD + d] = ((float *)made[r])[d] * part;
                    sums[token * HEADS + h] = most[r] + logf(total[r]);
                }
            }
        }
}

void attend_backward(int64_t first, int64_t last, const float *restrict projected, const int64_t *restrict starts,
                     const float *restrict mixed, const float *restrict sums, const float *restrict grad,
                     float *restrict made, int64_t window, float scale)
{
    Vector keys[HEAD][BLOCKS], values[HEAD][BLOCKS], d_keys[HEAD][BLOCKS], d_values[HEAD][BLOCKS];
    Vector rows[ROOM][PARTS], shares[ROWS][BLOCKS], slopes[ROWS][BLOCKS], d_query[ROWS][PARTS];
    float queries[ROWS][HEAD], grads[ROWS][HEAD];
    for (int64_t s = first; s < last; s++)
        for (int h = 0; h < HEADS; h++) {
            const int64_t length = starts[s + 1] - starts[s], begin = starts[s] * 3 * WIDTH + h * HEAD;
            const int64_t blocks = (length + 7) / 8;
            const float *query = projected + begin;
            const float *out = mixed + starts[s] * WIDTH + h * HEAD, *d_out = grad + starts[s] * WIDTH + h * HEAD;
            turned(values, rows, query + 2 * WIDTH, 3 * WIDTH, length, 8 * blocks);
            turned(keys, rows, query + WIDTH, 3 * WIDTH, length, 8 * blocks);
            memset(d_keys, 0, sizeof d_keys);
            memset(d_values, 0, sizeof d_values);
            for (int64_t at = 0; at < length; at += ROWS) {
                const int64_t end = at + ROWS < length ? at + ROWS : length, whole = (end + 7) / 8;
                taken(queries, query, 3 * WIDTH, at, length, scale);
                taken(grads, d_out, WIDTH, at, length, 1.0f);
                products(shares, queries, keys, whole);
                products(slopes, grads, values, whole);
                for (int64_t r = 0; r < ROWS; r++) {
                    float *share = (float *)shares[r], *slope = (float *)slopes[r], along = 0.0f;
                    if (at + r >= length) {
                        memset(share, 0, sizeof shares[r]);
                        memset(slope, 0, sizeof slopes[r]);
                        continue;
                    }
                    const float sum = sums[(starts[s] + at + r) * HEADS + h];
                    for (int d = 0; d < HEAD; d++) along += grads[r][d] * out[(at + r) * WIDTH + d];
                    hide(share, at + r, 8 * whole, window);
                    for (int64_t t = 0; t < 8 * whole; t++) share[t] = exponential(share[t] - sum);
                    for (int64_t t = 0; t < 8 * whole; t++) slope[t] = share[t] * (slope[t] - along);
                }
                mixtures(d_query, slopes, rows, whole);
                spread(d_keys, slopes, queries, whole); /* the queries are scaled already */
                spread(d_values, shares, grads, whole);
                for (int64_t r = 0; r < end - at; r++)
                    for (int d = 0; d < HEAD; d++)
                        made[begin + (at + r) * 3 * WIDTH + d] = ((float *)d_query[r])[d] * scale;
            }
            for (int64_t t = 0; t < length; t++)
                for (int d = 0; d < HEAD; d++) {
                    made[begin + t * 3 * WIDTH + WIDTH + d] = ((float *)d_keys[d])[t];
                    made[begin + t * 3 * WIDTH + 2 * WIDTH + d] = ((float *)d_values[d])[t];
                }
        }
}

#define SLOPE 1.5957691216f /* 2 sqrt(2 / pi): gelu_new is x times the sigmoid of SLOPE (x + CUBIC x^3) */
#define CUBIC 0.044715f

/* x + bias, in place, and its gelu_new; lines of `inner` numbers. */
void gelu_new(int64_t first, int64_t last, float *restrict x, const float *restrict bias, float *restrict made,
              int64_t inner)
{
    for (int64_t line = first; line < last; line++)
        for (int64_t i = 0; i < inner; i++) {
            const float at = x[line * inner + i] + bias[i];
            x[line * inner + i] = at;
            made[line * inner + i] = at / (1.0f + exponential(-SLOPE * at * (1.0f + CUBIC * at * at)));
        }
}

/* grad times the slope of gelu_new at x, in place. */
void gelu_new_backward(int64_t first, int64_t last, const float *restrict x, float *restrict grad, int64_t inner)
{
    for (int64_t i = first * inner; i < last * inner; i++) {
        const float at = x[i], square = CUBIC * at * at;
        const float share = 1.0f / (1.0f + exponential(-SLOPE * at * (1.0f + square)));
        grad[i] *= share + at * share * (1.0f - share) * SLOPE * (1.0f + 3.0f * square);
    }
}

/* The share of a normal distribution below x, and e^(-x^2 / 2), which it takes: Abramowitz & Stegun 7.1.26, to 1e-7. */
static inline float below(float x, float *bell)
{
    const float size = fabsf(x) * 0.70710678f, t = 1.0f / (1.0f + 0.3275911f * size);
    *bell = exponential(-0.5f * x * x);
    float p = 1.061405429f;
    p = p * t - 1.453152027f;
    p = p * t + 1.421413741f;
    p = p * t - 0.284496736f;
    p = p * t + 0.254829592f;
    const float above = 0.5f * p * t * *bell; /* |x| */
    return x < 0.0f ? above : 1.0f - above;
}

/* x + bias, in place, and its gelu. */
void gelu(int64_t first, int64_t last, float *restrict x, const float *restrict bias, float *restrict made,
          int64_t inner)
{
    for (int64_t line = first; line < last; line++)
        for (int64_t i = 0; i < inner; i++) {
            const float at = x[line * inner + i] + bias[i];
            float bell;
            x[line * inner + i] = at;
            made[line * inner + i] = at * below(at, &bell);
        }
}

/* grad times the slope of gelu at x, in place. */
void gelu_backward(int64_t first, int64_t last, const float *restrict x, float *restrict grad, int64_t inner)
{
    for (int64_t i = first * inner; i < last * inner; i++) {
        float bell;
        const float share = below(x[i], &bell);
        grad[i] *= share + 0.39894228f * x[i] * bell; /* 1 / sqrt(2 pi) */
    }
}
