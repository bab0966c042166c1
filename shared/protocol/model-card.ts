import { z } from 'zod';
import { PlatformError } from '../errors.ts';

/** What workers tell edge about the model they serve. */
export const modelCardSchema = z.object({
  name: z.string(),
  createdMs: z.number(),
  architecture: z.string(),
  vocabSize: z.int().positive(),
  /** Prompt and output tokens together. */
  maxSequenceTokens: z.int().positive(),
  eosTokenIds: z.array(z.int().nonnegative()),
  /** Key of the tokenizer's files in Redis: sha256 of their text. */
  tokenizerDigest: z.string(),
  /** Names the workers that give the same bytes; see `system_fingerprint`. */
  fingerprint: z.string(),
  /** Whether positions can go on beyond the trained length (`context_policy: sinks`). */
  canSlide: z.boolean(),
  /** The model's own defaults, from generation_config.json. */
  defaults: z.object({
    temperature: z.number().min(0),
    topP: z.number().gt(0).max(1),
    topK: z.int().nonnegative(),
    minP: z.number().min(0).max(1),
    repetitionPenalty: z.number().gt(0),
  }),
});

export type ModelCard = z.infer<typeof modelCardSchema>;

/** Files of a tokenizer, as they stand in a Hugging Face model directory. */
export const tokenizerFilesSchema = z.object({
  tokenizerJson: z.string(),
  tokenizerConfigJson: z.string(),
});

export type TokenizerFiles = z.infer<typeof tokenizerFilesSchema>;

export function encodeModelCard(card: ModelCard): string {
  return JSON.stringify(card);
}

/** @throws {PlatformError} `protocol_mismatch` when `payload` is not a card this build knows */
export function decodeModelCard(payload: string): ModelCard {
  try {
    return modelCardSchema.parse(JSON.parse(payload));
  } catch (cause) {
    throw new PlatformError('protocol_mismatch', 'unreadable model card', { cause });
  }
}
