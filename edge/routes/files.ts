import { type Context, Hono } from 'hono';
import { z } from 'zod';
import { PlatformError } from '../../shared/errors.ts';
import { FILE_PURPOSES, isFileId, type StoredFile } from '../../shared/protocol/file.ts';
import { parseFields } from '../../shared/protocol/request-issues.ts';
import type { AppEnv } from '../app.ts';
import { methodNotAllowed } from '../errors.ts';
import type { FileStore } from '../transport/files.ts';
import { takeUpload } from '../upload.ts';

export const files = new Hono<AppEnv>();

const listSchema = z.object({
  after: cursorOf(isFileId, 'a file').optional(),
  limit: z.coerce.number().int().min(1).max(10_000).default(10_000),
  order: z.enum(['asc', 'desc']).default('desc'),
  purpose: z.string().optional(),
});

files.post('/', async (c) => c.json(toFileObject(await takeUpload(c))));

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
    'content-disposition': `attachment; filename*=UTF-8''${encodeURIComponent(file.filename.toWellFormed())}`,
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

/** What OpenAI's lists go on after: the id of one of theirs, which may be gone by now. */
export function cursorOf(isId: (text: string) => boolean, what: string) {
  return z.string().refine(isId, {
    error: ({ input }) =>
      `is ${JSON.stringify(String(input).slice(0, 80))}; it must be the id of ${what}`,
  });
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
