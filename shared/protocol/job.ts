import { z } from 'zod';
import { PlatformError } from '../errors.ts';
import { isRequestId, type RequestId, type TenantId } from '../ids.ts';
import { webhookSchema } from './webhook.ts';

/** Everything about a draw but the logits and the position. */
export const samplingSchema = z.object({
  /** 0 takes the greatest logit. */
  temperature: z.number().min(0),
  topP: z.number().gt(0).max(1),
  /** 0 for no limit. */
  topK: z.int().nonnegative(),
  minP: z.number().min(0).max(1),
  presencePenalty: z.number(),
  frequencyPenalty: z.number(),
  /**
   * 1 for none. Divides positive and multiplies negative logits of tokens seen in prompt or output.
   */
  repetitionPenalty: z.number().gt(0),
  /** Pairs of token id and what is added to its logit. */
  logitBias: z.array(z.tuple([z.int().nonnegative(), z.number()])),
  /** Unsigned 32 bits. Choice `i` of a request draws with `choiceSeed(seed, i)`. */
  seed: z.int().min(0).max(0xffff_ffff),
});

export type SamplingParams = z.infer<typeof samplingSchema>;

const contextPolicySchema = z.discriminatedUnion('type', [
  z.object({ type: z.literal('stop') }),
  z.object({
    type: z.literal('sinks'),
    sinkTokens: z.int().nonnegative(),
    windowTokens: z.int().positive(),
  }),
]);

export type ContextPolicy = z.infer<typeof contextPolicySchema>;

export const JOB_CLASSES = ['interactive', 'batch'] as const;
/** `batch` waits in a queue of its own and gives way to `interactive` wherever the two meet. */
export type JobClass = (typeof JOB_CLASSES)[number];

/**
 * What edge hands a worker: a request that was checked, counted in tokens and given its defaults,
 * so that nothing about its output depends on when or where it runs.
 */
export const jobSchema = z.object({
  version: z.literal(1),
  id: z.custom<RequestId>((value) => typeof value === 'string' && isRequestId(value)),
  tenant: z.custom<TenantId>((value) => typeof value === 'string'),
  endpoint: z.enum(['completions', 'chat']),
  model: z.string(),
  /**
   * Names the workers that give the same bytes: model digest, weight format, provider, processor.
   */
  fingerprint: z.string(),
  createdMs: z.number(),
  /** When the answer is no longer wanted; `null` for never. */
  deadlineMs: z.number().nullable(),
  /** 1 is served first; larger numbers later. */
  priority: z.int().min(1).max(2_097_151),
  /** Absent for `interactive`. */
  class: z.enum(JOB_CLASSES).optional(),
  /** Choice `i` continues prompt `floor(i / n)`. */
  prompts: z.array(z.array(z.int().nonnegative())).min(1),
  n: z.int().positive(),
  sampling: samplingSchema,
  /** Output tokens of each choice; `null` for as many as the context policy allows. */
  maxTokens: z.int().nonnegative().nullable(),
  /** Output tokens that each choice has at least, unless it is cut short; absent for 0. */
  minTokens: z.int().positive().optional(),
  stop: z.array(z.string()),
  /** Tokens that end a choice, beside those of the model; absent for none. */
  stopTokenIds: z.array(z.int().nonnegative()).optional(),
  /** Number of alternatives reported beside each chosen token; `null` for no log-probabilities. */
  topLogprobs: z.int().nonnegative().nullable(),
  echo: z.boolean(),
  ignoreEos: z.boolean(),
  stream: z.boolean(),
  includeUsage: z.boolean(),
  speculation: z.enum(['auto', 'off']),
  /** Predicted output (OpenAI's `prediction`), as tokens. */
  prediction: z.array(z.int().nonnegative()).nullable(),
  contextPolicy: contextPolicySchema,
  onDisconnect: z.enum(['cancel', 'continue']),
  /**
   * Its log can be read for at least so long after the end; absent for the worker's own retention.
   */
  keepMs: z.int().nonnegative().optional(),
  /** Nobody waits for its answer: it is kept until it is asked for. */
  background: z.literal(true).optional(),
  /** Who is told about it. */
  webhook: webhookSchema.optional(),
  /** The client's own notes. */
  metadata: z.record(z.string(), z.string()).optional(),
});

export type Job = z.infer<typeof jobSchema>;

/** Where a request of each kind is posted. */
export const ENDPOINT_PATH = {
  chat: '/v1/chat/completions',
  completions: '/v1/completions',
} as const satisfies Record<Job['endpoint'], string>;

export function encodeJob(job: Job): string {
  return JSON.stringify(job);
}

/** @throws {PlatformError} `protocol_mismatch` when `payload` is not a job this build knows */
export function decodeJob(payload: string): Job {
  try {
    return jobSchema.parse(JSON.parse(payload));
  } catch (cause) {
    throw new PlatformError('protocol_mismatch', 'unreadable job', { cause });
  }
}

/** Output tokens beyond which a request may go on for ever as well. */
const UNBOUNDED_TOKENS = 8192;

/** Whether a request may run for so long that others cannot be left to wait for its end. */
export function isUnbounded({ contextPolicy, maxTokens }: Job): boolean {
  return contextPolicy.type === 'sinks' && (maxTokens ?? Infinity) > UNBOUNDED_TOKENS;
}

/**
 * Whether what happens to it goes to its outbox. The lines of a batch are told of together, by the
 * batch.
 */
export function isNotified(job: Pick<Job, 'background' | 'webhook' | 'class'>): boolean {
  return job.webhook !== undefined || (job.background === true && job.class !== 'batch');
}

/** Whether chunks say where in the text each token begins (`text_offset`). */
export function hasTextOffsets({ endpoint, topLogprobs }: Pick<Job, 'endpoint' | 'topLogprobs'>) {
  return endpoint === 'completions' && topLogprobs !== null;
}

export function numChoices(job: Pick<Job, 'prompts' | 'n'>): number {
  return job.prompts.length * job.n;
}

/**
 * The seed of one choice: the request's own for the first of each prompt, so that n = 1 is the
 * first of n.
 */
export function choiceSeed(seed: number, choice: number): number {
  return (seed ^ Math.imul(choice, 0x9e3779b1)) >>> 0;
}
