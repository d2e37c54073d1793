// Runs a scenario of scenarios/everywhere with one of PowerSync's SDKs:
//   node everywhere.mjs node|web NAME
// The environment is that of device.mjs, with CHROMIUM for the web.
const [platform, name] = process.argv.slice(2);
const { POSTERN_URL, CONTROL_URL } = process.env;

if (platform === 'node') {
  const { Device } = await import('./device.mjs');
  const { control } = await import('./control.mjs');
  const { default: scenario } = await import(`./scenarios/everywhere/${name}.mjs`);
  const open = (user, options) => new Device(user, options);
  const { app, ...more } = await scenario({ open, control: control(CONTROL_URL), supabaseURL: CONTROL_URL });
  await app.finish(more);
} else {
  const { openBrowser } = await import('./browser.mjs');
  const browser = await openBrowser(`
    import scenario from './scenarios/everywhere/${name}.mjs';
    import { control } from './control.mjs';
    import { Tab } from './tab.mjs';
    window.run = async ({ POSTERN_URL, CONTROL_URL }) => {
      const open = (user, options) => new Tab(POSTERN_URL, user, options);
      const { app, ...more } = await scenario({ open, control: control(CONTROL_URL), supabaseURL: CONTROL_URL });
      return app.report(more);
    };
    window.ready = true;`);
  const tab = await browser.tab();
  process.stdout.write(JSON.stringify(await tab.evaluate((environment) => window.run(environment), { POSTERN_URL, CONTROL_URL })));
  await browser.close();
}
