/* What stands between the matrix products of a transformer's block, for one new token of many lines.
 *
 * HEADS and HEAD (width of one head) are set by the compiler's command line, so that every inner loop has a known
 * length. Numbers of a line are ordered (head, heads): sums over a head are sums of whole vectors.
 *
 * Shapes: projected (lines, 3, WIDTH): query, key, value; keys and values (lines, room, WIDTH), `stride` numbers from
 * line to line; mixed, x, normal (lines, WIDTH); hidden (lines, inner). Lines from `first` on, before `last`.
 */
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "exponential.h"

#define WIDTH (HEADS * HEAD)
#define PAGE 16 /* numbers that the processor fetches at once: 64 bytes */

/* Takes the new key and value in, and mixes the values of the tokens from `from` to `at`. */
void attend(int64_t first, int64_t last, float *restrict projected, const float *restrict bias, float *restrict keys,
            float *restrict values, float *restrict mixed, int64_t stride, int64_t from, int64_t at)
{
    const int64_t seen = at + 1 - from;
    float shares[seen * HEADS];
    for (int64_t line = first; line < last; line++) {
        float *new = projected + line * 3 * WIDTH, *key = keys + line * stride, *value = values + line * stride;
        for (int i = 0; i < 3 * WIDTH; i++) new[i] += bias[i];
        memcpy(key + at * WIDTH, new + WIDTH, WIDTH * sizeof(float));
        memcpy(value + at * WIDTH, new + 2 * WIDTH, WIDTH * sizeof(float));
        float most[HEADS], total[HEADS], mixture[WIDTH];
        for (int h = 0; h < HEADS; h++) most[h] = -FLT_MAX;
        for (int64_t t = 0; t < seen; t++) {
            const float *k = key + (from + t) * WIDTH;
            for (int i = 0; i < WIDTH; i += PAGE) __builtin_prefetch(k + stride + i); /* the next line's */
            float product[WIDTH];
            for (int i = 0; i < WIDTH; i++) product[i] = new[i] * k[i];
            for (int rows = HEAD; rows > 1; rows -= rows / 2) /* halves are added, the middle one waits */
                for (int i = 0; i < rows / 2 * HEADS; i++) product[i] += product[i + (rows - rows / 2) * HEADS];
            for (int h = 0; h < HEADS; h++) {
                shares[t * HEADS + h] = product[h];
                most[h] = product[h] > most[h] ? product[h] : most[h];
            }
        }
        for (int64_t t = 0; t < seen; t++)
            for (int h = 0; h < HEADS; h++) shares[t * HEADS + h] -= most[h];
        for (int64_t i = 0; i < seen * HEADS; i++) shares[i] = exponential(shares[i]);
        memset(mixture, 0, sizeof mixture);
        memset(total, 0, sizeof total);
        for (int64_t t = 0; t < seen; t++) {
            const float *v = value + (from + t) * WIDTH;
            for (int i = 0; i < WIDTH; i += PAGE) __builtin_prefetch(v + stride + i);
            for (int i = 0; i < HEAD; i++)
                for (int h = 0; h < HEADS; h++) mixture[i * HEADS + h] += shares[t * HEADS + h] * v[i * HEADS + h];
            for (int h = 0; h < HEADS; h++) total[h] += shares[t * HEADS + h];
        }
        for (int i = 0; i < HEAD; i++)
            for (int h = 0; h < HEADS; h++) mixed[line * WIDTH + i * HEADS + h] = mixture[i * HEADS + h] / total[h];
    }
}

/* x + bias, in place, and its layer norm without gain and shift. */
void normal(int64_t first, int64_t last, float *restrict x, const float *restrict bias, float *restrict normal, float eps)
{
    for (int64_t line = first; line < last; line++) {
        float *row = x + line * WIDTH, sum = 0.0f, square = 0.0f;
        for (int i = 0; i < WIDTH; i++) row[i] += bias[i];
#pragma omp simd reduction(+ : sum)
        for (int i = 0; i < WIDTH; i++) sum += row[i];
        const float mean = sum / WIDTH;
#pragma omp simd reduction(+ : square)
        for (int i = 0; i < WIDTH; i++) square += (row[i] - mean) * (row[i] - mean);
        const float scale = 1.0f / sqrtf(square / WIDTH + eps);
        for (int i = 0; i < WIDTH; i++) normal[line * WIDTH + i] = (row[i] - mean) * scale;
    }
}

/* gelu of hidden + bias, in place; the error function to 1.5e-7 by Abramowitz and Stegun 7.1.26. */
void gelu(int64_t first, int64_t last, float *restrict hidden, const float *restrict bias, int64_t inner)
{
    for (int64_t line = first; line < last; line++)
        for (int64_t i = 0; i < inner; i++) {
            const float x = hidden[line * inner + i] + bias[i], z = fabsf(x) * 0.70710678f;
            const float t = 1.0f / (1.0f + 0.3275911f * z);
            float tail = 1.061405429f;
            tail = tail * t - 1.453152027f;
            tail = tail * t + 1.421413741f;
            tail = tail * t - 0.284496736f;
            tail = tail * t + 0.254829592f;
            tail *= 0.5f * t * exponential(-z * z);
            hidden[line * inner + i] = x > 0.0f ? x - x * tail : x * tail;
        }
}

/* gelu by tanh (Hendrycks and Gimpel 2016) of hidden + bias, in place, as x sigmoid(2 u). */
void gelu_new(int64_t first, int64_t last, float *restrict hidden, const float *restrict bias, int64_t inner)
{
    for (int64_t line = first; line < last; line++)
        for (int64_t i = 0; i < inner; i++) {
            const float x = hidden[line * inner + i] + bias[i];
            const float u = 1.5957691216f * x * (1.0f + 0.044715f * x * x); /* 2 sqrt(2 / pi) */
            hidden[line * inner + i] = x / (1.0f + exponential(-u));
        }
}

/* Pasts of lines `from` of one cache into places `to` of another: in each plane, the first `numbers` of a line. */
void copy(const float *restrict source, float *restrict target, const int64_t *from, const int64_t *to, int64_t lines,
          int64_t planes, int64_t source_plane, int64_t target_plane, int64_t source_stride, int64_t target_stride,
          int64_t numbers)
{
    for (int64_t plane = 0; plane < planes; plane++)
        for (int64_t i = 0; i < lines; i++)
            memcpy(target + plane * target_plane + to[i] * target_stride,
                   source + plane * source_plane + from[i] * source_stride, numbers * sizeof(float));
}
