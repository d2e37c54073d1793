// The device's clock is two hours fast, so its valid token seems to have expired.
import { wrongClock } from '../../wrong-clock.mjs';

export default (world) => wrongClock(world, 2, 'valid');
