import { z } from 'zod';
import type { Webhook } from './webhook.ts';
import { webhookRequestSchema } from './webhook-request.ts';

/** Bounds of what a request may ask for, whatever the model. */
export const LIMITS = {
  maxChoices: 128,
  maxStops: 16,
  maxStopLength: 256,
  maxStopTokens: 128,
  maxTopLogprobs: 20,
  maxLogitBiases: 1024,
  maxTimeoutSeconds: 7 * 24 * 3600,
} as const;

/** Served when a request names no priority: room for more urgent and for less urgent ones. */
const DEFAULT_PRIORITY = 1000;

/** What is wrong with a string that UTF-8 cannot carry. */
export const HALF_PAIR = 'holds half of a surrogate pair';

/** A string that UTF-8 can carry. */
export const text = z.string().refine((value) => value.isWellFormed(), { error: HALF_PAIR });

const stop = z.preprocess(
  (value) => (typeof value === 'string' ? [value] : value),
  z.array(text.min(1).max(LIMITS.maxStopLength)).max(LIMITS.maxStops),
);

const logitBias = z
  .record(z.string().regex(/^\d{1,9}$/, 'is not a token id'), z.number().min(-100).max(100))
  .refine((bias) => Object.keys(bias).length <= LIMITS.maxLogitBiases, {
    error: `has too many entries; the limit is ${LIMITS.maxLogitBiases}`,
  })
  .transform((bias) => Object.entries(bias).map(([id, value]): [number, number] => [+id, value]));

/** Fields that completions and chat share; `null` counts as absent and never gets here. */
export const commonFields = {
  model: text.min(1).max(256),
  frequency_penalty: z.number().min(-2).max(2).default(0),
  presence_penalty: z.number().min(-2).max(2).default(0),
  repetition_penalty: z.number().min(0.1).max(10).optional(),
  temperature: z.number().min(0).max(2).optional(),
  top_p: z.number().min(0).max(1).optional(),
  top_k: z.int().min(-1).optional(),
  min_p: z.number().min(0).max(1).optional(),
  logit_bias: logitBias.default([]),
  seed: z.int().optional(),
  n: z.int().min(1).max(LIMITS.maxChoices).default(1),
  stop: stop.default([]),
  stop_token_ids: z.array(z.int().min(0)).max(LIMITS.maxStopTokens).default([]),
  min_tokens: z.int().min(0).default(0),
  stream: z.boolean().default(false),
  stream_options: z
    .object({ include_usage: z.boolean().nullish(), include_obfuscation: z.boolean().nullish() })
    .optional(),
  ignore_eos: z.boolean().default(false),
  timeout: z.number().gt(0).max(LIMITS.maxTimeoutSeconds).optional(),
  on_disconnect: z.enum(['cancel', 'continue']).default('cancel'),
  speculation: z.enum(['auto', 'off']).default('auto'),
  priority: z.int().min(1).max(2_097_151).default(DEFAULT_PRIORITY),
  context_policy: z.enum(['stop', 'sinks']).default('stop'),
  sink_tokens: z.int().min(0).optional(),
  window_tokens: z.int().min(1).optional(),
  background: z.boolean().default(false),
  webhook: webhookRequestSchema.optional(),
} as const;

const commonSchema = z.object(commonFields);

type CommonFields = z.infer<typeof commonSchema>;

/**
 * What a request asks of any endpoint, in our own terms; `null` leaves the choice to the model's
 * card.
 */
export interface GenerationOptions {
  readonly model: string;
  readonly n: number;
  readonly sampling: {
    readonly temperature: number | null;
    readonly topP: number | null;
    readonly topK: number | null;
    readonly minP: number | null;
    readonly presencePenalty: number;
    readonly frequencyPenalty: number;
    readonly repetitionPenalty: number | null;
    readonly logitBias: readonly (readonly [number, number])[];
    /** Unsigned 32 bits; `null` to have one drawn. */
    readonly seed: number | null;
  };
  readonly stop: readonly string[];
  readonly stopTokenIds: readonly number[];
  /** Before so many tokens nothing of an answer's own ends it. */
  readonly minTokens: number;
  readonly stream: boolean;
  readonly includeUsage: boolean;
  readonly ignoreEos: boolean;
  readonly timeoutSeconds: number | null;
  readonly onDisconnect: 'cancel' | 'continue';
  readonly speculation: 'auto' | 'off';
  readonly priority: number;
  readonly contextPolicy: {
    readonly type: 'stop' | 'sinks';
    readonly sinkTokens: number | null;
    readonly windowTokens: number | null;
  };
  /** Nobody waits for the answer. */
  readonly isBackground: boolean;
  readonly webhook: Webhook | null;
}

export function toGenerationOptions(fields: CommonFields): GenerationOptions {
  return {
    model: fields.model,
    n: fields.n,
    sampling: {
      temperature: fields.temperature ?? null,
      // The nucleus of 0 is the likeliest token alone, and so is that of a millionth.
      topP: fields.top_p === undefined ? null : Math.max(fields.top_p, 1e-6),
      topK: fields.top_k === undefined ? null : Math.max(fields.top_k, 0),
      minP: fields.min_p ?? null,
      presencePenalty: fields.presence_penalty,
      frequencyPenalty: fields.frequency_penalty,
      repetitionPenalty: fields.repetition_penalty ?? null,
      logitBias: fields.logit_bias,
      seed: fields.seed === undefined ? null : Number(BigInt.asUintN(32, BigInt(fields.seed))),
    },
    stop: fields.stop,
    stopTokenIds: fields.stop_token_ids,
    minTokens: fields.min_tokens,
    stream: fields.stream,
    includeUsage: fields.stream_options?.include_usage ?? false,
    ignoreEos: fields.ignore_eos,
    timeoutSeconds: fields.timeout ?? null,
    onDisconnect: fields.on_disconnect,
    speculation: fields.speculation,
    priority: fields.priority,
    contextPolicy: {
      type: fields.context_policy,
      sinkTokens: fields.sink_tokens ?? null,
      windowTokens: fields.window_tokens ?? null,
    },
    isBackground: fields.background,
    webhook: fields.webhook ?? null,
  };
}
