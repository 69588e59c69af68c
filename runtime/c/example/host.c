/* The model is the file that $MBERT_MODEL names. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

const uint8_t *model_place(size_t *bytes) {
    const char *name = getenv("MBERT_MODEL");
    FILE *file = name == NULL ? NULL : fopen(name, "rb");
    uint8_t *place = NULL;
    long length;
    if (file != NULL && fseek(file, 0, SEEK_END) == 0 && (length = ftell(file)) >= 0) {
        rewind(file);
        *bytes = (size_t)length;
        /* At a multiple of 16, as malloc gives it. */
        place = malloc(*bytes + 1);
        if (place != NULL && fread(place, 1, *bytes, file) != *bytes) {
            free(place);
            place = NULL;
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    if (place == NULL) {
        fprintf(stderr, "no model: MBERT_MODEL must name a file that mbert convert has written\n");
    }
    return place;
}
