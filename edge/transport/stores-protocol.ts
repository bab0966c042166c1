import { Buffer } from 'node:buffer';
import { z } from 'zod';
import type { TenantId } from '../../shared/ids.ts';
import { type Batch, batchSchema, batchSpecSchema } from '../../shared/protocol/batch.ts';
import { FILE_PURPOSES, type StoredFile, storedFileSchema } from '../../shared/protocol/file.ts';
import type { BatchQuery, BatchStore } from './batches.ts';
import type { FileClaim, FileQuery, FileStore } from './files.ts';

const tenantSchema = z.custom<TenantId>((tenant) => typeof tenant === 'string');

const claimSchema = z.object({
  id: z.string(),
  tenant: tenantSchema,
  numBytes: z.number(),
  expiresMs: z.number(),
  maxFiles: z.number(),
  maxBytes: z.number(),
});

const fileQuerySchema = z.object({
  tenant: tenantSchema,
  after: z.string().nullable(),
  limit: z.int(),
  isNewestFirst: z.boolean(),
  purpose: z.enum(FILE_PURPOSES).nullable(),
});

const batchQuerySchema = z.object({
  tenant: tenantSchema,
  after: z.string().nullable(),
  limit: z.int(),
});

/** One method of `FileStore` or `BatchStore`, with its arguments. Pieces are base64. */
export const storeCallSchema = z.discriminatedUnion('method', [
  z.object({ method: z.literal('admitFile'), claim: claimSchema }),
  z.object({
    method: z.literal('appendFile'),
    id: z.string(),
    index: z.int(),
    piece: z.string(),
  }),
  z.object({ method: z.literal('sealFile'), file: storedFileSchema, numPieces: z.int() }),
  z.object({ method: z.literal('findFile'), id: z.string() }),
  z.object({ method: z.literal('readFile'), id: z.string(), first: z.int() }),
  z.object({ method: z.literal('listFiles'), query: fileQuerySchema }),
  z.object({ method: z.literal('removeFile'), id: z.string(), tenant: tenantSchema }),
  z.object({ method: z.literal('createBatch'), spec: batchSpecSchema, maxOpen: z.int() }),
  z.object({ method: z.literal('findBatch'), id: z.string() }),
  z.object({ method: z.literal('listBatches'), query: batchQuerySchema }),
  z.object({ method: z.literal('cancelBatch'), id: z.string() }),
]);

export type StoreCall = z.infer<typeof storeCallSchema>;

/** The hub's side. */
export async function answerStore(
  { files, batches }: { readonly files: FileStore; readonly batches: BatchStore },
  call: StoreCall,
): Promise<unknown> {
  switch (call.method) {
    case 'admitFile':
      return files.admit(call.claim);
    case 'appendFile':
      return files.append(call.id, call.index, Buffer.from(call.piece, 'base64'));
    case 'sealFile':
      return files.seal(call.file, call.numPieces);
    case 'findFile':
      return files.find(call.id);
    case 'readFile':
      return (await files.read(call.id, call.first)).map(encodePiece);
    case 'listFiles':
      return files.list(call.query);
    case 'removeFile':
      return files.remove(call);
    case 'createBatch':
      return batches.create(call.spec, call.maxOpen);
    case 'findBatch':
      return batches.find(call.id);
    case 'listBatches':
      return batches.list(call.query);
    case 'cancelBatch':
      return batches.cancel(call.id);
  }
}

/** Asks a hub, and reads its answer with the schema. */
export type AskStore = <Value>(call: StoreCall, schema: z.ZodType<Value>) => Promise<Value>;

const nothingSchema = z.unknown().transform(() => undefined);

/** The file store over a hub. */
export function createHubFiles(ask: AskStore): FileStore {
  return {
    admit: (claim: FileClaim) => ask({ method: 'admitFile', claim }, nothingSchema),
    append: (id, index, piece) =>
      ask({ method: 'appendFile', id, index, piece: encodePiece(piece) }, nothingSchema),
    seal: (file: StoredFile, numPieces) =>
      ask({ method: 'sealFile', file, numPieces }, nothingSchema),
    find: (id) => ask({ method: 'findFile', id }, storedFileSchema.nullable()),
    async read(id, first) {
      const pieces = await ask({ method: 'readFile', id, first }, z.array(z.string()));
      return pieces.map((piece) => Buffer.from(piece, 'base64'));
    },
    list: (query: FileQuery) => ask({ method: 'listFiles', query }, z.array(storedFileSchema)),
    remove: ({ id, tenant }) => ask({ method: 'removeFile', id, tenant }, nothingSchema),
  };
}

/** The clients' side of batches over a hub. */
export function createHubBatches(ask: AskStore): BatchStore {
  return {
    create: (spec, maxOpen) => ask({ method: 'createBatch', spec, maxOpen }, nothingSchema),
    find: (id): Promise<Batch | null> => ask({ method: 'findBatch', id }, batchSchema.nullable()),
    list: (query: BatchQuery) => ask({ method: 'listBatches', query }, z.array(batchSchema)),
    cancel: (id) => ask({ method: 'cancelBatch', id }, nothingSchema),
  };
}

function encodePiece({ buffer, byteOffset, length }: Uint8Array): string {
  return Buffer.from(buffer, byteOffset, length).toString('base64');
}
