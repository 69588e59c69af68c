/*
 * Multilingual BERT in integers only: no heap, no operating system, the same bits on every CPU.
 *
 * A pointer points to what it is declared to, as many as the number behind it says, for the length of the call; null and misaligned ones
 * are refused. Memory that a call writes to is nobody else's meanwhile; apart from that, any thread may call. Texts are UTF-8 and need no
 * closing zero byte. What is returned is MBERT_STATUS_OK, or why there is no answer; the next question works.
 *
 * Written by cbindgen from runtime/c/src; `MBERT_WRITE_HEADER=1 cargo test -p mbert-c --test header` writes it anew.
 */

#ifndef MBERT_H
#define MBERT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 Tokens in the answer for a mask.
 */
#define MBERT_TOP_K 5

/*
 Masks that a text may have.
 */
#define MBERT_MASKS 8

/*
 Bytes of the hash that every target must agree on.
 */
#define MBERT_TRACE_BYTES 32

/*
 Words of MbertModel.
 */
#define MBERT_MODEL_WORDS 96

/*
 Why there is no answer. mbert_message has a sentence for each.
 */
typedef enum MbertStatus {
  /*
   There is one.
   */
  MBERT_STATUS_OK,
  /*
   A pointer is null that must not be.
   */
  MBERT_STATUS_NULL_POINTER,
  /*
   A pointer is not a multiple of what it points to.
   */
  MBERT_STATUS_MISALIGNED_POINTER,
  /*
   A length is more than an address space can hold.
   */
  MBERT_STATUS_LENGTH_OUT_OF_RANGE,
  /*
   The model was not opened by mbert_open.
   */
  MBERT_STATUS_NOT_OPEN,
  /*
   The bytes are no model: they do not begin with MBQ1, or are too few or too many.
   */
  MBERT_STATUS_NOT_A_MODEL,
  /*
   The model was written by another version of mbert convert.
   */
  MBERT_STATUS_UNSUPPORTED_VERSION,
  /*
   The model is damaged or incomplete.
   */
  MBERT_STATUS_DAMAGED_MODEL,
  /*
   The model is outside what this library computes, or packed for another CPU.
   */
  MBERT_STATUS_UNSUPPORTED_MODEL,
  /*
   The model's place in memory is not a multiple of 8.
   */
  MBERT_STATUS_MISALIGNED_MODEL,
  /*
   A text is not UTF-8.
   */
  MBERT_STATUS_NOT_UTF8,
  /*
   The text has more tokens than the workspace or the model allows.
   */
  MBERT_STATUS_TEXT_TOO_LONG,
  /*
   The text has no mask token.
   */
  MBERT_STATUS_NO_MASK,
  /*
   The text has more mask tokens than there is room for answers, or than MBERT_MASKS.
   */
  MBERT_STATUS_TOO_MANY_MASKS,
  /*
   The model was converted without this head.
   */
  MBERT_STATUS_MISSING_HEAD,
  /*
   The model does not take this sequence: two texts, where it has one token type.
   */
  MBERT_STATUS_UNSUPPORTED_SEQUENCE,
  /*
   What is to be returned is longer than the room for it.
   */
  MBERT_STATUS_BUFFER_TOO_SMALL,
} MbertStatus;

/*
 An open model: memory of the caller's, which mbert_open fills. It may be copied, and shared between threads.
 */
typedef struct MbertModel {
  /*
   Of this library alone.
   */
  uint64_t opaque[MBERT_MODEL_WORDS];
} MbertModel;

/*
 What a model is.
 */
typedef struct MbertConfig {
  /*
   Tokens of the vocabulary.
   */
  uint32_t vocab_size;
  /*
   Values of a hidden state.
   */
  uint32_t hidden_size;
  /*
   Encoder layers.
   */
  uint32_t num_hidden_layers;
  /*
   The longest sequence in tokens.
   */
  uint32_t max_position_embeddings;
  /*
   Whether mbert_fill_mask answers.
   */
  bool has_masked_lm;
  /*
   Whether mbert_next_sentence answers.
   */
  bool has_next_sentence;
} MbertConfig;

/*
 A token that may stand where the mask is.
 */
typedef struct MbertToken {
  /*
   Its id.
   */
  uint32_t id;
  /*
   Its logit, in steps of 2^-16.
   */
  int32_t logit;
  /*
   Its probability, in steps of 2^-31.
   */
  uint32_t probability_q31;
} MbertToken;

/*
 The answer for a mask.
 */
typedef struct MbertMaskAnswer {
  /*
   Where the mask stands in the sequence, [CLS] being 0.
   */
  uint32_t position;
  /*
   Tokens in best: MBERT_TOP_K, or all where the vocabulary has fewer.
   */
  uint32_t count;
  /*
   The best, best first.
   */
  struct MbertToken best[MBERT_TOP_K];
} MbertMaskAnswer;

/*
 The last hidden states of a text.
 */
typedef struct MbertFeatures {
  /*
   Token after token, hidden_size values each, in the workspace: until that is used again.
   */
  const int16_t *values;
  /*
   Tokens.
   */
  size_t tokens;
  /*
   Values of a token.
   */
  size_t hidden_size;
  /*
   A value is in steps of 2^-fraction_bits.
   */
  int32_t fraction_bits;
} MbertFeatures;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/*
 A sentence for a status: what is wrong, and what to do. Never null.
 */
const char *mbert_message(int32_t status);

/*
 Opens a model in memory: checks its header, its sections, and that it is for this CPU.

 bytes: the model, at a multiple of 8; its place may be longer than it. It is read in place, and must stay as it is while it is used.
 Large sections are checked by mbert_verify.
 */
enum MbertStatus mbert_open(struct MbertModel *model,
                            const uint8_t *bytes,
                            size_t bytes_len);

/*
 Checks the SHA-256 of every section: once after the start, and after the model was written.
 */
enum MbertStatus mbert_verify(const struct MbertModel *model);

/*
 Tells what a model is.
 */
enum MbertStatus mbert_config(const struct MbertModel *model, struct MbertConfig *config);

/*
 Bytes of workspace for sequences of up to so many tokens, [CLS] and [SEP] included; 0 where the model is not open.

 Less will do: the same answer then takes several passes over some of the weights. mbert_max_tokens tells how much less.
 */
size_t mbert_workspace_bytes(const struct MbertModel *model, size_t tokens);

/*
 The longest sequence that so much workspace allows, in as many passes as it takes; 0 if none does, or the model is not open.
 */
size_t mbert_max_tokens(const struct MbertModel *model,
                        size_t workspace_bytes);

/*
 Turns a text, or two as a pair, into token ids with [CLS] and [SEP].

 pair: null for one text. tokens: how many there are, also where ids is too short for them (MBERT_STATUS_BUFFER_TOO_SMALL).
 */
enum MbertStatus mbert_tokenize(const struct MbertModel *model,
                                const char *text,
                                size_t text_bytes,
                                const char *pair,
                                size_t pair_bytes,
                                uint32_t *ids,
                                size_t ids_len,
                                size_t *tokens);

/*
 Turns token ids back into text that ends with a zero byte.

 skip_special_tokens: leaves [CLS], [SEP] and their kind out. text_bytes: its length without the zero byte.
 */
enum MbertStatus mbert_decode(const struct MbertModel *model,
                              const uint32_t *ids,
                              size_t ids_len,
                              bool skip_special_tokens,
                              char *text,
                              size_t text_capacity,
                              size_t *text_bytes);

/*
 Fills in every mask of a text.

 answers: one for each mask, in their order. masks: how many there are.
 */
enum MbertStatus mbert_fill_mask(const struct MbertModel *model,
                                 uint8_t *workspace,
                                 size_t workspace_bytes,
                                 const char *text,
                                 size_t text_bytes,
                                 struct MbertMaskAnswer *answers,
                                 size_t answers_len,
                                 size_t *masks);

/*
 Tells whether the second text follows the first: if logits[0] is larger than logits[1].

 logits: two values in steps of 2^-16.
 */
enum MbertStatus mbert_next_sentence(const struct MbertModel *model,
                                     uint8_t *workspace,
                                     size_t workspace_bytes,
                                     const char *text,
                                     size_t text_bytes,
                                     const char *pair,
                                     size_t pair_bytes,
                                     int32_t *logits);

/*
 Gives the last hidden states of a text.
 */
enum MbertStatus mbert_features(const struct MbertModel *model,
                                uint8_t *workspace,
                                size_t workspace_bytes,
                                const char *text,
                                size_t text_bytes,
                                struct MbertFeatures *features);

/*
 The SHA-256 over every hidden state and logit of a text with masks, on which every target must agree: `mbert fill-mask --trace-hash` prints
 the same.

 hash: MBERT_TRACE_BYTES bytes.
 */
enum MbertStatus mbert_trace(const struct MbertModel *model,
                             uint8_t *workspace,
                             size_t workspace_bytes,
                             const char *text,
                             size_t text_bytes,
                             uint8_t *hash);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* MBERT_H */
