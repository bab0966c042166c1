import type { Context } from 'hono';
import { z } from 'zod';
import { PlatformError } from '../shared/errors.ts';
import { createFileId, type StoredFile } from '../shared/protocol/file.ts';
import { parseFields } from '../shared/protocol/request-issues.ts';
import type { AppEnv } from './app.ts';
import { firstIdOf, hasKey, sha256 } from './idempotency.ts';
import { checkFormHeaders, readUpload, type Upload } from './multipart.ts';

/** How long an upload counts after its last piece, if it never ends. */
const UPLOAD_MS = 10 * 60_000;

const MAX_NAME_LENGTH = 255;
const MIN_LIFE_SECONDS = 3600;
const MAX_LIFE_SECONDS = 30 * 86_400;

const uploadSchema = z.object({
  purpose: z.enum(['batch']),
  'expires_after[anchor]': z.enum(['created_at']).optional(),
  'expires_after[seconds]': z.coerce
    .number()
    .int()
    .min(MIN_LIFE_SECONDS)
    .max(MAX_LIFE_SECONDS)
    .optional(),
});

/**
 * Takes a file as it comes. It is on its way to Redis meanwhile, and visible once all of it is
 * there. What an `Idempotency-Key` stands for is known by then, too: a retry drops its own pieces
 * for the first call's file.
 *
 * @throws {PlatformError} as `readUpload`, `FileStore` and `firstIdOf`
 */
export async function takeUpload(c: Context<AppEnv>): Promise<StoredFile> {
  const { options, tenant, transport } = c.var;
  const { files } = transport;
  const { maxBytes, lifeMs } = options.files;
  checkFormHeaders(c.req.raw.headers, maxBytes);
  const isKeyed = hasKey(c);
  const createdMs = options.now();
  const id = createFileId(createdMs);
  const announced = Math.min(Number(c.req.header('content-length') ?? maxBytes), maxBytes);
  await admit(c, { id, numBytes: announced, expiresMs: createdMs + UPLOAD_MS });
  let isReserved = false;
  let admittedMs = createdMs;
  try {
    const digests: string[] = [];
    let numPieces = 0;
    const upload = await readUpload(c.req.raw, {
      maxFileBytes: maxBytes,
      async write(piece) {
        if (isKeyed) digests.push(await sha256(piece));
        await files.append(id, numPieces, piece);
        numPieces += 1;
        const nowMs = options.now();
        if (nowMs - admittedMs < UPLOAD_MS / 2) return;
        await admit(c, { id, numBytes: announced, expiresMs: nowMs + UPLOAD_MS });
        admittedMs = nowMs;
      },
    });
    const file = { id, tenant, createdMs, ...describe(upload, createdMs, lifeMs) };
    const firstId = await firstIdOf(c, id, [[...upload.fields].sort(), upload.filename, digests]);
    if (firstId !== id) return await firstFile(c, file, numPieces, firstId);
    isReserved = isKeyed;
    await admit(c, file);
    await files.seal(file, numPieces);
    return isKeyed ? ((await files.find(id)) ?? file) : file; // a retry may have been faster
  } catch (error) {
    // What is left all the same is forgotten by itself; so is what a retry may be at.
    if (!isReserved) await files.remove({ id, tenant }).catch(() => undefined);
    throw error;
  }
}

/**
 * The file of the first call. Where that died before it was complete, or is about to complete it,
 * and where the file was deleted since, it is made of the pieces of this one, which are the same.
 */
async function firstFile(
  c: Context<AppEnv>,
  own: StoredFile,
  numPieces: number,
  firstId: string,
): Promise<StoredFile> {
  const { files } = c.var.transport;
  const file = { ...own, id: firstId };
  try {
    if ((await files.find(firstId)) === null) {
      await copyPieces(c, own.id, firstId);
      await files.remove(own);
      await admit(c, file);
      await files.seal(file, numPieces);
    }
  } catch (error) {
    const isComplete = (await files.find(firstId).catch(() => null)) !== null;
    if (!isComplete) throw error;
  }
  await files.remove(own);
  return (await files.find(firstId)) ?? file;
}

async function copyPieces(c: Context<AppEnv>, from: string, to: string): Promise<void> {
  const { files } = c.var.transport;
  for (let next = 0; ; ) {
    const pieces = await files.read(from, next);
    if (pieces.length === 0) return;
    for (const piece of pieces) {
      await files.append(to, next, piece);
      next += 1;
    }
  }
}

function admit(
  c: Context<AppEnv>,
  { id, numBytes, expiresMs }: Pick<StoredFile, 'id' | 'numBytes' | 'expiresMs'>,
): Promise<void> {
  const { options, tenant, transport } = c.var;
  const { maxFiles, maxTenantBytes: maxBytes } = options.files;
  return transport.files.admit({ id, tenant, numBytes, expiresMs, maxFiles, maxBytes });
}

function describe({ fields, filename, numBytes }: Upload, createdMs: number, lifeMs: number) {
  const parsed = parseFields(uploadSchema, Object.fromEntries(fields));
  const seconds = parsed['expires_after[seconds]'];
  if (numBytes === 0) {
    throw new PlatformError('invalid_request', 'file is empty', { param: 'file' });
  }
  const expiresMs = createdMs + (seconds === undefined ? lifeMs : seconds * 1000);
  return { filename: shortened(filename), numBytes, purpose: parsed.purpose, expiresMs };
}

/** Never half of a character. */
function shortened(filename: string): string {
  return filename.slice(0, MAX_NAME_LENGTH).toWellFormed();
}
