import { z } from 'zod';
import type { TenantId } from '../ids.ts';
import { webhookSchema } from './webhook.ts';

const batchIdPattern = /^batch_[0-9a-f]{32}$/;

export const BATCH_ENDPOINTS = ['/v1/chat/completions', '/v1/completions'] as const;
export type BatchEndpoint = (typeof BATCH_ENDPOINTS)[number];

/** Lines that one batch may have, and bytes that a line may have. */
export const MAX_BATCH_LINES = 50_000;
export const MAX_LINE_BYTES = 1024 * 1024;

export const COMPLETION_WINDOW = '24h';
export const COMPLETION_WINDOW_MS = 24 * 3_600_000;

export const BATCH_STATUSES = [
  'validating',
  'failed',
  'in_progress',
  'finalizing',
  'completed',
  'expired',
  'cancelling',
  'cancelled',
] as const;
export type BatchStatus = (typeof BATCH_STATUSES)[number];

const ENDED: ReadonlySet<BatchStatus> = new Set(['failed', 'completed', 'expired', 'cancelled']);

export function isBatchEnded(status: BatchStatus): boolean {
  return ENDED.has(status);
}

/** What is wrong with the input file, and where. */
const batchErrorSchema = z.object({
  code: z.string(),
  /** Counted from 1; `null` for the file as a whole. */
  line: z.int().positive().nullable(),
  message: z.string(),
  param: z.string().nullable(),
});

export type BatchError = z.infer<typeof batchErrorSchema>;

/** What a client asked for; it never changes. */
export const batchSpecSchema = z.object({
  version: z.literal(1),
  id: z.string().regex(batchIdPattern),
  tenant: z.custom<TenantId>((value) => typeof value === 'string'),
  inputFileId: z.string(),
  endpoint: z.enum(BATCH_ENDPOINTS),
  metadata: z.record(z.string(), z.string()).nullable(),
  /** Who is told of its end; `null` for nobody. */
  webhook: webhookSchema.nullable(),
  createdMs: z.number(),
  /** When what is not done is given up. */
  expiresMs: z.number(),
  /** How long its output can be read once it has ended. */
  outputLifeMs: z.number(),
});

export type BatchSpec = z.infer<typeof batchSpecSchema>;

/** How far the input is read and its results are written. */
export const batchProgressSchema = z.object({
  /** Lines whose results are written, and bytes of the input up to the next one. */
  nextLine: z.int().nonnegative(),
  byteOffset: z.int().nonnegative(),
  numCompleted: z.int().nonnegative(),
  numFailed: z.int().nonnegative(),
  outputBytes: z.int().nonnegative(),
  errorBytes: z.int().nonnegative(),
});

export type BatchProgress = z.infer<typeof batchProgressSchema>;

/** When a batch entered a status, in ms. */
export const batchTimesSchema = z.partialRecord(z.enum(BATCH_STATUSES), z.number());

export const batchSchema = z.object({
  spec: batchSpecSchema,
  status: z.enum(BATCH_STATUSES),
  /** Which claim of a runner may write; a later one fences it out. */
  epoch: z.int().nonnegative(),
  numLines: z.int().nonnegative(),
  progress: batchProgressSchema,
  timesMs: batchTimesSchema,
  errors: z.array(batchErrorSchema),
  outputFileId: z.string().nullable(),
  errorFileId: z.string().nullable(),
  isNotified: z.boolean(),
});

export type Batch = z.infer<typeof batchSchema>;

export function isBatchId(text: string): boolean {
  return batchIdPattern.test(text);
}

/** Names of the files that a batch writes; they share its hash tag. */
export function batchFileId(batchId: string, kind: 'output' | 'errors'): string {
  return `file-${batchId.slice('batch_'.length)}-${kind}`;
}
