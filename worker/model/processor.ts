import { readFileSync } from 'node:fs';
import { arch, cpus, platform } from 'node:os';

/** Instruction sets that the runtime chooses its kernels by, the decisive one first. */
const DECISIVE_FLAGS = [
  'amx_int8',
  'avx512_vnni',
  'avx512f',
  'avx_vnni',
  'avx2',
  'i8mm',
  'asimddp',
];

/**
 * Names the kind of processor, such as `x64:amx_int8+avx512_vnni+avx512f+avx2`: two machines of
 * one class run the same kernels and so give the same bits.
 */
export function processorClass(): string {
  const flags = readFlags();
  const decisive = DECISIVE_FLAGS.filter((flag) => flags.has(flag));
  if (decisive.length > 0) return `${arch()}:${decisive.join('+')}`;
  const model = cpus()[0]?.model.trim().replaceAll(/\s+/g, '-').toLowerCase() ?? 'unknown';
  return `${arch()}:${model}`;
}

function readFlags(): Set<string> {
  if (platform() !== 'linux') return new Set();
  const match = /^(?:flags|Features)\s*:\s*(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'));
  return new Set(match?.[1]?.split(' ') ?? []);
}
