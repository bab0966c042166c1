import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { invariant } from '../../shared/assert.ts';
import { Engine } from '../engine/engine.ts';
import { openModel } from '../model/open-model.ts';
import { checkInvariance, checkNumbers } from '../model/self-check.ts';
import type { Command, Report, ThreadOptions } from './messages.ts';
import { openSpeculator } from './open-speculator.ts';
import { openTokenizer } from './open-tokenizer.ts';
import { toOpenedModel } from './opened-model.ts';
import { Outbox } from './outbox.ts';

/**
 * The engine thread: commands in, updates out, and the model's blocking runs kept off the main
 * thread.
 */
invariant(parentPort !== null, 'the engine runs in a worker thread');
const port = parentPort;
const options: ThreadOptions = workerData;

function report(message: Report): void {
  port.postMessage(message);
}

/** Commands as they come; the engine takes them between two steps. */
class Inbox {
  #commands: Command[] = [];
  #wake: (() => void) | null = null;

  push(command: Command): void {
    this.#commands.push(command);
    this.#wake?.();
  }

  /**
   * Those of the moment: what came while the model ran is not told by an event before the next run
   * has begun.
   */
  takeAll(): Command[] {
    for (;;) {
      const received = receiveMessageOnPort(port);
      if (received === undefined) break;
      this.#commands.push(received.message);
    }
    const commands = this.#commands;
    this.#commands = [];
    return commands;
  }

  /** Resolves once a command is here. */
  async wait(): Promise<void> {
    if (this.#commands.length > 0) return;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
    this.#wake = null;
  }
}

/** @returns whether to go on */
function obey(engine: Engine, outbox: Outbox, command: Command): boolean {
  switch (command.type) {
    case 'start':
      engine.start(command.job, command.beginning);
      return true;
    case 'proceed':
      engine.proceed(command.id);
      return true;
    case 'cancel':
      engine.cancel(command.id, command.reason);
      return true;
    case 'release':
      engine.release(command.id);
      outbox.forget(command.id, performance.now());
      report({ type: 'released', id: command.id });
      return true;
    case 'measure':
      report({ type: 'measured', usage: engine.usage });
      return true;
    case 'close':
      return false;
  }
}

async function serve(engine: Engine, inbox: Inbox): Promise<void> {
  const outbox = new Outbox((updates) => report({ type: 'updates', updates }));
  for (;;) {
    if (engine.isIdle) {
      outbox.flush(performance.now());
      await inbox.wait();
    }
    for (const command of inbox.takeAll()) if (!obey(engine, outbox, command)) return;
    if (engine.isIdle) continue;
    await engine.step();
    outbox.add(engine.takeUpdates(), performance.now());
  }
}

async function open() {
  try {
    const model = await openModel(options);
    const opened = toOpenedModel(model, options.kvCacheBytes);
    await checkNumbers(model.runner, options.modelDir);
    // Elsewhere the driver chooses the kernels, and nothing is promised.
    if (options.executionProvider === 'cpu') await checkInvariance(model.runner);
    const tokenizer = openTokenizer(opened, model.checkpoint);
    const speculator = await openSpeculator(options, tokenizer);
    return { runner: model.runner, opened, tokenizer, speculator };
  } catch (error) {
    report({ type: 'refused', message: error instanceof Error ? error.message : String(error) });
    return null;
  }
}

const inbox = new Inbox();
port.on('message', (command: Command) => inbox.push(command));
const model = await open();
if (model !== null) {
  const { runner, opened, tokenizer, speculator } = model;
  const engine = new Engine({
    runner,
    limits: options.limits,
    kvCacheBytes: options.kvCacheBytes,
    prefixCacheBytes: options.prefixCacheBytes,
    speculator,
    context: {
      tokenBytes: tokenizer.tokenBytes,
      numLeadingSpaces: tokenizer.numLeadingSpaces,
      describe: (tokenId) => ({
        text: tokenizer.tokenText(tokenId),
        bytes: [...(tokenizer.tokenBytes(tokenId) ?? [])],
      }),
      eosTokenIds: opened.eosTokenIds,
      maxSequenceTokens: opened.shape.maxSequenceTokens,
      now: () => performance.now(),
    },
  });
  report({ type: 'ready', model: opened });
  await serve(engine, inbox);
  await runner.close();
}
port.close();
