import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';

/** A hub with one model, `maker/model`, as the public one answers for it. */
export interface TestHub extends AsyncDisposable {
  readonly endpoint: string;
  readonly files: Map<string, Buffer>;
  /** Of every file that was asked for: its name, and the range. */
  readonly asked: string[];
  /** Bytes after which an answer breaks off, once for each entry. */
  readonly cuts: number[];
  /** Names of files whose bytes are not what the list says. */
  readonly damaged: Set<string>;
  token: string | null;
}

/** @param modelDir whose files are served */
export async function openTestHub(modelDir: string): Promise<TestHub> {
  const files = new Map(
    readdirSync(modelDir).map((name) => [name, readFileSync(join(modelDir, name))]),
  );
  const hub = { files, asked: [] as string[], cuts: [] as number[], damaged: new Set<string>() };
  const state = { ...hub, token: null as string | null };
  const server = createServer((request, response) => answer(state, request, response));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return Object.assign(state, {
    endpoint: `http://127.0.0.1:${port}`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
    },
  });
}

type State = Omit<TestHub, 'endpoint' | typeof Symbol.asyncDispose>;

function answer(state: State, request: IncomingMessage, response: ServerResponse): void {
  const path = request.url ?? '';
  if (state.token !== null && request.headers.authorization !== `Bearer ${state.token}`) {
    response.writeHead(401).end();
  } else if (path === '/api/models/maker/model/revision/main?blobs=true') {
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify({ sha: 'c0ffee', siblings: [...listed(state.files)] }));
  } else if (path.startsWith('/maker/model/resolve/c0ffee/')) {
    sendFile(state, path.split('/').at(-1) ?? '', request, response);
  } else response.writeHead(404).end();
}

/** Weights are kept in large-file storage there, everything else in git. */
function* listed(files: ReadonlyMap<string, Buffer>) {
  for (const [rfilename, bytes] of files) {
    const header = `blob ${bytes.length}\0`;
    const blobId = createHash('sha1').update(header).update(bytes).digest('hex');
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    const isLarge = rfilename.endsWith('.safetensors');
    yield { rfilename, size: bytes.length, blobId, ...(isLarge && { lfs: { sha256 } }) };
  }
}

function sendFile(
  { files, asked, cuts, damaged }: State,
  name: string,
  { headers }: IncomingMessage,
  response: ServerResponse,
): void {
  const bytes = Buffer.from(files.get(name) ?? '');
  asked.push(`${name} ${headers.range ?? 'whole'}`);
  if (damaged.has(name)) bytes[bytes.length - 1]! ^= 1;
  const start = Number(/^bytes=(\d+)-$/.exec(headers.range ?? '')?.[1] ?? 0);
  const rest = bytes.subarray(start);
  response.writeHead(start > 0 ? 206 : 200, { 'content-length': rest.length });
  const cut = cuts.shift();
  if (cut === undefined) response.end(rest);
  else response.write(rest.subarray(0, cut), () => setTimeout(() => response.destroy(), 50));
}
