import { describe, expect, it } from 'vitest';
import { openWorkerdFront } from '../../infra/workerd-front.ts';

describe('openWorkerdFront', () => {
  it('says of an address that is not ours something other than that it is taken', async () => {
    const options = { port: 0, hostname: '192.0.2.1', workerdPort: 1 }; // for documentation only
    await expect(openWorkerdFront(options)).rejects.toThrow('cannot listen on 192.0.2.1:0: ');
  });

  it('says what to do when the port is taken', async () => {
    await using first = await openWorkerdFront({ port: 0, hostname: '127.0.0.1', workerdPort: 1 });
    const options = { port: first.port, hostname: '127.0.0.1', workerdPort: 1 };
    await expect(openWorkerdFront(options)).rejects.toThrow(
      `127.0.0.1:${first.port} is taken; stop what listens there or set PORT`,
    );
  });
});
