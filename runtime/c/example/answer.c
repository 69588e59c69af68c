/* Fills in the mask of a text, and prints the hash on which every target must agree. The same on a host and on a board. */
#include <stdio.h>
#include <string.h>

#include "mbert.h"

/* Where the model lies: host.c reads a file, a board's file names its flash. Null, and a message, if it is not there. */
const uint8_t *model_place(size_t *bytes);

static MbertModel model;
static uint8_t workspace[64 << 10];

/* Tells what is wrong, if anything is. */
static bool failed(MbertStatus status) {
    if (status != MBERT_STATUS_OK) {
        fprintf(stderr, "%s\n", mbert_message(status));
    }
    return status != MBERT_STATUS_OK;
}

int main(int arguments, char **argument) {
    const char *text = arguments > 1 ? argument[1] : "Paris is the [MASK] of France.";
    size_t place_bytes, masks;
    const uint8_t *place = model_place(&place_bytes);
    if (place == NULL || failed(mbert_open(&model, place, place_bytes)) || failed(mbert_verify(&model))) {
        return 2;
    }

    MbertMaskAnswer answers[MBERT_MASKS];
    if (failed(mbert_fill_mask(&model, workspace, sizeof workspace, text, strlen(text), answers, MBERT_MASKS, &masks))) {
        return 2;
    }
    for (size_t mask = 0; mask < masks; mask++) {
        for (uint32_t best = 0; best < answers[mask].count; best++) {
            const MbertToken *token = &answers[mask].best[best];
            char word[64];
            size_t bytes;
            if (failed(mbert_decode(&model, &token->id, 1, false, word, sizeof word, &bytes))) {
                return 2;
            }
            unsigned score = (unsigned)(((uint64_t)token->probability_q31 * 10000 + (1u << 30)) >> 31);
            printf("  %u.%04u  %s\n", score / 10000, score % 10000, word);
        }
    }

    uint8_t hash[MBERT_TRACE_BYTES];
    if (failed(mbert_trace(&model, workspace, sizeof workspace, text, strlen(text), hash))) {
        return 2;
    }
    printf("trace ");
    for (size_t byte = 0; byte < sizeof hash; byte++) {
        printf("%02x", (unsigned)hash[byte]);
    }
    printf("\n");
    return 0;
}
