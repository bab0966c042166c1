import { truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ModelError } from '../../../worker/model/model-error.ts';
import { SafetensorsFile } from '../../../worker/model/safetensors.ts';
import { encodeSafetensors, type StoredType } from '../../support/checkpoints.ts';
import { temporaryDirectory } from '../../support/directories.ts';

const directory = temporaryDirectory();
const path = join(directory, 'model.safetensors');

// Each is exact in all three types: a subnormal half, the greatest half, infinities, both zeros.
const exact = Float32Array.of(1, -2.5, 0, -0, 0.15625, 2 ** -20, 65_280, Infinity, -Infinity);

function write(dtype: StoredType, names: readonly string[] = ['a']): void {
  const tensors = names.map((name) => [name, { shape: [3, 3], data: exact }] as const);
  writeFileSync(path, encodeSafetensors(new Map(tensors), dtype));
}

function writeHeader(header: unknown, numDataBytes: number): void {
  const text = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  writeFileSync(path, Buffer.concat([length, text, Buffer.alloc(numDataBytes)]));
}

function open(): SafetensorsFile {
  return new SafetensorsFile(path);
}

describe('SafetensorsFile', () => {
  it.each(['F32', 'F16', 'BF16'] as const)('reads %s as float32', (dtype) => {
    write(dtype, ['a', 'b']);
    const file = open();

    expect(file.names).toEqual(['a', 'b']);
    expect(file.shapeOf('b')).toEqual([3, 3]);
    expect(file.shapeOf('c')).toBeNull();
    expect([...file.read('b')]).toEqual([...exact]);
    file.close();
  });

  it('reads a NaN half as NaN', () => {
    writeHeader({ a: { dtype: 'F16', shape: [1], data_offsets: [0, 2] } }, 0);
    writeFileSync(path, Buffer.of(0x01, 0x7e), { flag: 'a' });
    expect([...open().read('a')]).toEqual([NaN]);
  });

  it('says how much of a truncated file is there', () => {
    write('F32');
    truncateSync(path, 100);
    expect(open).toThrow(ModelError);
    expect(open).toThrow(/model\.safetensors is truncated: 100 bytes of \d+; download it again/);

    truncateSync(path, 40);
    expect(open).toThrow(/is truncated: 40 bytes of \d+/);
    truncateSync(path, 3);
    expect(open).toThrow('is truncated: 3 bytes of 8');
  });

  it.each([
    ['not JSON', '{"a": ', 'unreadable header'],
    ['not an object', [1], 'unreadable header'],
    ['without a shape', { a: { dtype: 'F32', data_offsets: [0, 4] } }, 'unreadable header'],
    [
      'of another size than its shape',
      { a: { dtype: 'F32', shape: [2], data_offsets: [0, 4] } },
      'tensor a of shape [2] as F32 needs 8 bytes, the header gives it 4',
    ],
  ])('refuses a header that is %s', (_, header, message) => {
    writeHeader(header, 4);
    expect(open).toThrow(`${path} is corrupt: `);
    expect(open).toThrow(message);
  });

  it('refuses a file of another kind', () => {
    writeFileSync(path, '<!DOCTYPE html><html>Not found</html>');
    expect(open).toThrow('is not a safetensors file');
  });

  it('names a type it cannot read', () => {
    writeHeader({ a: { dtype: 'F8_E4M3', shape: [4], data_offsets: [0, 4] } }, 4);
    expect(() => open().read('a')).toThrow('tensor a is F8_E4M3; supported are F32, F16 and BF16');
  });

  it('names a missing file', () => {
    expect(() => new SafetensorsFile(join(directory, 'none'))).toThrow('none cannot be read');
  });
});
