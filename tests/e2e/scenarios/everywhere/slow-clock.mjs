// The device's clock is an hour slow, so its expired token seems to be valid.
import { wrongClock } from '../../wrong-clock.mjs';

export default (world) => wrongClock(world, -1, 'expired');
