import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { Service } from './openai-conformance.ts';

const up = fileURLToPath(new URL('../../infra/up.ts', import.meta.url));

/**
 * Everything that `npm start` starts, on a free port and a Redis of its own.
 *
 * @throws {Error} with all that was printed, when it ends before it is ready
 */
export async function openStack(env: Readonly<Record<string, string>> = {}): Promise<Service> {
  const child = spawn(process.execPath, [up], {
    env: { ...process.env, HOST: '127.0.0.1', PORT: '0', REDIS_URL: undefined, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const ended = once(child, 'exit');
  let printed = '';
  const url = await new Promise<string>((resolve, reject) => {
    const read = (data: Buffer) => {
      printed += data.toString();
      const found = /^ready\n[\s\S]*?(http:\/\/[\d.]+:\d+)/m.exec(printed);
      if (found?.[1] !== undefined) resolve(found[1]);
    };
    child.stdout.on('data', read);
    child.stderr.on('data', read);
    child.on('exit', () => reject(new Error(`the stack ended early:\n${printed}`)));
  });
  return {
    url,
    async [Symbol.asyncDispose]() {
      child.kill('SIGTERM');
      await ended;
    },
  };
}
