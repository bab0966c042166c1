import { z } from 'zod';
import type { TenantId } from '../ids.ts';

/** A file is kept as a list of pieces; those of an upload are all of this size but the last. */
export const FILE_CHUNK_BYTES = 256 * 1024;

/** Every part of `createTimedId` and what a batch puts behind its own. */
const fileIdPattern = /^file-[0-9a-f]{32}(?:-output|-errors)?$/;

export const FILE_PURPOSES = ['batch', 'batch_output'] as const;
export type FilePurpose = (typeof FILE_PURPOSES)[number];

export const storedFileSchema = z.object({
  id: z.string().regex(fileIdPattern),
  tenant: z.custom<TenantId>((value) => typeof value === 'string'),
  filename: z.string(),
  purpose: z.enum(FILE_PURPOSES),
  createdMs: z.number(),
  /** When it is forgotten. */
  expiresMs: z.number(),
  numBytes: z.int().nonnegative(),
});

/** A file that is complete; nothing about it changes any more. */
export type StoredFile = z.infer<typeof storedFileSchema>;

export function isFileId(text: string): boolean {
  return fileIdPattern.test(text);
}

/** 32 hex digits, of which the first 12 tell the time, so that ids sort by age. */
export function createTimedHex(nowMs: number): string {
  const random = crypto.randomUUID().replaceAll('-', '').slice(12);
  return nowMs.toString(16).padStart(12, '0').slice(-12) + random;
}

export function createFileId(nowMs: number): string {
  return `file-${createTimedHex(nowMs)}`;
}
