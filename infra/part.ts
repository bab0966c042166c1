import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { stripVTControlCharacters } from 'node:util';

const root = fileURLToPath(new URL('..', import.meta.url));

/** A process of our own under `npm start`, its output shown line by line behind its name. */
export class Part {
  readonly name: string;
  /** Resolves with a line that says how it ended. */
  readonly ended: Promise<string>;
  readonly #child: ChildProcess;

  /** @param args of Node: its options, then a script */
  constructor(name: string, args: readonly string[], env: NodeJS.ProcessEnv) {
    this.name = name;
    // Its own process group: Ctrl-C reaches only `npm start`, which stops its parts in order.
    this.#child = spawn(process.execPath, ['--import', './infra/end-with-parent.mjs', ...args], {
      cwd: root,
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      if (stream === null) continue;
      createInterface({ input: stream }).on('line', (line) => {
        console.log(`${name.padEnd(8)} | ${toReadable(line)}`);
      });
    }
    this.ended = once(this.#child, 'exit').then(([status, signal]) => {
      return `${name} ended with ${signal === null ? `status ${status}` : signal}`;
    });
  }

  /** Asks it to stop, waits, and makes it stop when it takes longer than `withinMs`. */
  async stop(withinMs: number): Promise<void> {
    this.#child.kill('SIGTERM');
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), withinMs);
    await this.ended;
    clearTimeout(timer);
  }
}

/** A log event as words, `edge_ready port=8787`; anything else as it is. */
export function toReadable(line: string): string {
  if (!line.startsWith('{')) return stripVTControlCharacters(line);
  try {
    const { event, level: _level, time: _time, ...fields } = JSON.parse(line);
    if (typeof event !== 'string') return line;
    const words = Object.entries(fields).map(([name, value]) => {
      return `${name}=${typeof value === 'string' ? value : JSON.stringify(value)}`;
    });
    return [event, ...words].join(' ');
  } catch {
    return line;
  }
}
