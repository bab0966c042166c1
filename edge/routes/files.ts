import { type Context, Hono } from 'hono';
import { z } from 'zod';
import { PlatformError } from '../../shared/errors.ts';
import {
  createFileId,
  FILE_PURPOSES,
  isFileId,
  type StoredFile,
} from '../../shared/protocol/file.ts';
import { parseFields } from '../../shared/protocol/request-issues.ts';
import type { AppEnv } from '../app.ts';
import { methodNotAllowed } from '../errors.ts';
import { checkFormHeaders, readUpload, type Upload } from '../multipart.ts';
import type { FileStore } from '../transport/files.ts';

export const files = new Hono<AppEnv>();

/** How much a file of unknown length is taken to have until it is here; and for how long, if it never is. */
const UPLOAD_MS = 10 * 60_000;

const MIN_LIFE_SECONDS = 3600;
const MAX_LIFE_SECONDS = 30 * 86_400;

const listSchema = z.object({
  after: z.string().optional(),
  limit: z.coerce.number().int().min(1).max(10_000).default(10_000),
  order: z.enum(['asc', 'desc']).default('desc'),
  purpose: z.string().optional(),
});

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

/** The file is on its way to Redis while it comes; it is visible once all of it is there. */
files.post('/', async (c) => {
  const { options, tenant, transport } = c.var;
  const { maxBytes, maxFiles, maxTenantBytes } = options.files;
  checkFormHeaders(c.req.raw.headers, maxBytes);
  const createdMs = options.now();
  const id = createFileId(createdMs);
  const admit = (numBytes: number, expiresMs: number) => {
    const limits = { maxFiles, maxBytes: maxTenantBytes };
    return transport.files.admit({ id, tenant, numBytes, expiresMs, ...limits });
  };
  const announced = Number(c.req.header('content-length') ?? maxBytes);
  await admit(Math.min(announced, maxBytes), createdMs + UPLOAD_MS);
  try {
    let numPieces = 0;
    const upload = await readUpload(c.req.raw, {
      maxFileBytes: maxBytes,
      async write(piece) {
        await transport.files.append(id, numPieces, piece);
        numPieces += 1;
      },
    });
    const file = { id, tenant, createdMs, ...describe(upload, createdMs, options.files.lifeMs) };
    await admit(file.numBytes, file.expiresMs);
    await transport.files.seal(file, numPieces);
    return c.json(toFileObject(file));
  } catch (error) {
    // What is left all the same is forgotten by itself.
    await transport.files.remove({ id, tenant }).catch(() => undefined);
    throw error;
  }
});

function describe({ fields, filename, numBytes }: Upload, createdMs: number, lifeMs: number) {
  const parsed = parseFields(uploadSchema, Object.fromEntries(fields));
  const seconds = parsed['expires_after[seconds]'];
  if (numBytes === 0) {
    throw new PlatformError('invalid_request', 'file is empty', { param: 'file' });
  }
  const expiresMs = createdMs + (seconds === undefined ? lifeMs : seconds * 1000);
  return { filename: filename.slice(0, 255), numBytes, purpose: parsed.purpose, expiresMs };
}

files.get('/', async (c) => {
  const { after, limit, order, purpose } = parseFields(listSchema, c.req.query());
  const known = FILE_PURPOSES.find((each) => each === purpose) ?? null;
  const query = { tenant: c.var.tenant, after: after ?? null, purpose: known };
  const isUnknown = purpose !== undefined && known === null;
  const found = isUnknown
    ? []
    : await c.var.transport.files.list({
        ...query,
        limit: limit + 1,
        isNewestFirst: order === 'desc',
      });
  return c.json(toList(found.map(toFileObject), limit));
});
files.all('/', methodNotAllowed('GET, POST'));

files.get('/:id', async (c) => c.json(toFileObject(await findFile(c))));

files.delete('/:id', async (c) => {
  const file = await findFile(c);
  await c.var.transport.files.remove(file);
  return c.json({ id: file.id, object: 'file', deleted: true });
});
files.all('/:id', methodNotAllowed('GET, DELETE'));

files.get('/:id/content', async (c) => {
  const file = await findFile(c);
  return c.body(contentOf(c.var.transport.files, file.id), 200, {
    'content-type': 'application/octet-stream',
    'content-length': `${file.numBytes}`,
    'content-disposition': `attachment; filename*=UTF-8''${encodeURIComponent(file.filename)}`,
  });
});
files.all('/:id/content', methodNotAllowed('GET'));

/** Reads on whenever the client has room. */
function contentOf(store: FileStore, id: string): ReadableStream<Uint8Array> {
  let next = 0;
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const pieces = await store.read(id, next);
        next += pieces.length;
        for (const piece of pieces) controller.enqueue(piece);
        if (pieces.length === 0) controller.close();
      },
    },
    { highWaterMark: 0 },
  );
}

/** Another tenant's file is as unknown as none at all. */
export async function findFile(
  c: Context<AppEnv>,
  id = c.req.param('id') ?? '',
): Promise<StoredFile> {
  const file = isFileId(id) ? await c.var.transport.files.find(id) : null;
  if (file !== null && file.tenant === c.var.tenant) return file;
  const message = `the file ${JSON.stringify(id.slice(0, 80))} does not exist or is no longer kept`;
  throw new PlatformError('not_found', message, { param: 'id' });
}

/** OpenAI's page of a list that was asked for with one item more than `limit`. */
export function toList<Item extends { readonly id: string }>(
  found: readonly Item[],
  limit: number,
) {
  const data = found.slice(0, limit);
  return {
    object: 'list',
    data,
    first_id: data[0]?.id ?? null,
    last_id: data.at(-1)?.id ?? null,
    has_more: found.length > limit,
  };
}

function toFileObject(file: StoredFile) {
  return {
    id: file.id,
    object: 'file',
    bytes: file.numBytes,
    created_at: Math.floor(file.createdMs / 1000),
    expires_at: Math.floor(file.expiresMs / 1000),
    filename: file.filename,
    purpose: file.purpose,
    status: 'processed',
    status_details: null,
  };
}
