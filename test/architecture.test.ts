import { globSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';

/** Paths are from the repository root; packages go by their bare names. */
const WALLS = [
  {
    room: 'shared',
    knows: 'no side',
    never: /^(edge|worker|infra)\/|^(node:|ioredis|bullmq|hono)/,
  },
  {
    room: 'shared',
    knows: 'only zod, the tokenizer and addresses',
    only: /^(shared\/|(zod|ipaddr\.js)$|@huggingface\/)/,
  },
  { room: 'edge', knows: 'no worker', never: /^(worker|infra)\/|^onnxruntime/ },
  {
    room: 'edge/{routes,middleware,stream,jobs}',
    knows: 'only shared, Hono and edge',
    only: /^(shared|edge)\/|^(hono|zod)(\/|$)/,
  },
  {
    room: 'edge/batches',
    knows: 'the queue, but no route',
    never: /^edge\/(routes|middleware|app|hub|node|workers)/,
  },
  {
    room: 'edge/transport',
    knows: 'Redis and nothing of the app',
    only: /^(shared\/|edge\/transport\/|(ioredis|bullmq|zod|cloudflare:workers)$|node:)/,
  },
  { room: 'worker', knows: 'no edge', never: /^(edge|infra)\/|^(hono|cloudflare:)/ },
  {
    room: 'worker/{cache,sampling}',
    knows: 'only shared and each other',
    only: /^(shared\/|worker\/(cache|sampling)\/)/,
  },
  {
    room: 'worker/model',
    knows: 'neither sequences nor blocks nor Redis',
    never: /^worker\/(?!model\/)|^(ioredis|bullmq)/,
  },
  {
    room: 'worker/speculative',
    knows: 'only shared, sampling and model',
    only: /^(shared\/|worker\/(speculative|sampling|model)\/)/,
  },
  {
    room: 'worker/engine',
    knows: 'neither Redis nor Node nor threads',
    only: /^(shared\/|worker\/(engine|cache|sampling|speculative|model)\/)/,
  },
  {
    room: 'worker/queue',
    knows: 'neither engine nor model',
    never: /^worker\/(?!queue\/|telemetry\/)|^(onnxruntime|node:worker_threads)/,
  },
  {
    room: 'worker/webhooks',
    knows: 'neither engine nor model',
    never:
      /^worker\/(?!webhooks\/|queue\/(connection|patient-redis)\.ts|telemetry\/)|^(onnxruntime|node:worker_threads)/,
  },
  {
    room: 'worker/thread',
    knows: 'no Redis',
    never: /^worker\/(queue|webhooks)\/|^(ioredis|bullmq)/,
  },
  {
    room: 'worker/telemetry',
    knows: 'neither engine nor model',
    never: /^(edge\/|worker\/(?!telemetry\/|queue\/generation\.ts))/,
  },
] as const;

/** Files of Node or of Workers alone; the rest of edge runs on both. */
const EDGE_ENTRIES = /^edge\/(node|workers|hub|batches-node)[^/]*\.ts$/;

function filesOf(room: string): string[] {
  const files = globSync(`${room}/**/*.ts`).filter((file) => !file.includes('node_modules'));
  expect(files).not.toEqual([]);
  return files;
}

function importsOf(file: string): string[] {
  const source = readFileSync(file, 'utf8');
  const specifiers = source.matchAll(/\b(?:from|import)\s*\(?\s*'([^']+)'/g);
  return [...specifiers].map(([, specifier = '']) =>
    specifier.startsWith('.') ? join(dirname(file), specifier) : specifier,
  );
}

/** Source without comments, in which words stand for nothing. */
function codeOf(file: string): string {
  return readFileSync(file, 'utf8').replace(/\/\*[\s\S]*?\*\/|\/\/.*/g, '');
}

describe('architecture', () => {
  it.each(WALLS)('$room knows $knows', ({ room, ...wall }) => {
    for (const file of filesOf(room)) {
      for (const specifier of importsOf(file)) {
        if ('never' in wall) expect(specifier, file).not.toMatch(wall.never);
        else expect(specifier, file).toMatch(wall.only);
      }
    }
  });

  it('finds imports in all their forms', () => {
    expect(importsOf('worker/thread/client.ts')).toEqual(
      expect.arrayContaining(['node:worker_threads', 'worker/thread/messages.ts']),
    );
    expect(importsOf('test/architecture.test.ts')).toContain('vitest');
  });

  it('keeps what runs on Node alone out of the rest of edge', () => {
    for (const file of globSync('edge/*.ts').filter((each) => !EDGE_ENTRIES.test(each))) {
      for (const specifier of importsOf(file)) {
        expect(specifier, file).not.toMatch(/^(node:|@hono\/node-server|ioredis|bullmq)/);
      }
    }
  });

  it('reaches for no clock and no chance where tokens are made', () => {
    for (const file of filesOf('worker/{engine,cache,sampling,speculative}')) {
      expect(codeOf(file), file).not.toMatch(
        /\b(Date\.now|new Date|performance\.|Math\.random|crypto\.|setTimeout|setInterval|process\.)/,
      );
    }
  });

  it('reads the environment at the entries alone', () => {
    for (const file of filesOf('{edge,worker,shared}')) {
      const isEntry =
        /^(worker\/main|edge\/node|edge\/workers|edge\/batches-node|worker\/webhooks\/main)\.ts$/.test(
          file,
        );
      if (!isEntry) expect(codeOf(file), file).not.toMatch(/\bprocess\.env\b/);
    }
  });

  it('imports modules by their file, with its ending', () => {
    for (const file of filesOf('{edge,worker,shared}')) {
      for (const specifier of importsOf(file)) {
        if (/^(edge|worker|shared)\//.test(specifier)) expect(specifier, file).toMatch(/\.ts$/);
        expect(specifier, file).not.toMatch(/\/index\.ts$/);
      }
    }
  });

  it('keeps files to 300 lines, and comments to 100 columns as Biome keeps code', () => {
    for (const file of filesOf('{edge,worker,shared,infra,test}')) {
      const lines = readFileSync(file, 'utf8').trimEnd().split('\n');
      expect(lines.length, file).toBeLessThanOrEqual(300);
      const comments = lines.filter((line) => /^\s*(\*|\/\*|\/\/)|[;,{(] \/\/ /.test(line));
      expect(
        comments.filter((line) => line.length > 100),
        file,
      ).toEqual([]);
    }
  });
});
