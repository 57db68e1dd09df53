// Tests the collector's pages in Chromium. Run by ci/reports-pages: node pages.js PORT PAGES DIRECTORY TOKEN
// [SCREENSHOTS]
'use strict';
const fs = require('fs');
const path = require('path');
const { chromium } = require('playwright-core');

const [port, pages, directory, token, screenshots] = process.argv.slice(2);
const site = `http://127.0.0.1:${pages}`;
const axe = fs.readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');
const host = 'www.example.com';
const failures = [];
// The state of the browser after signing in, with the cookie.
let storageState;

const pem = (name) => fs.readFileSync(path.join(directory, `${name}.pem`), 'utf8');

function report(name, chain) {
    const now = new Date().toISOString();
    const certificates = chain.map(pem);
    return {
        'date-time': now, hostname: name, port: 443, 'effective-expiration-date': now, 'include-subdomains': false,
        'noted-hostname': name, 'served-certificate-chain': certificates, 'validated-certificate-chain': certificates,
        'known-pins': ['pin-sha256="d6qzRu9zOECb90Uez27xWltNsj0e1Md7GkYYkVoZWmM="'],
    };
}

async function fill() {
    const pin = 'sha256/d6qzRu9zOECb90Uez27xWltNsj0e1Md7GkYYkVoZWmM=';
    const bodies = [
        ...Array(12).fill(report(host, ['ours', 'ca'])), ...Array(3).fill(report(host, ['theirs', 'ca'])),
        ...Array(20).fill(report(host, ['tool'])), ...Array(7).fill(report(host, ['office'])),
        report('a-rather-long-label-for-a-host-that-nobody-would-want-to-type.example.org', ['office']),
        { hostname: 'shop.example.com', enforced: true, 'known-pins': [pin], 'served-pins': [pin],
          message: '<script>document.title = "run"</script><img src=x onerror=alert(1)>\u001b[31m\u202e\u2066' },
        { hostname: 'www.xn--4db.example', enforced: true, 'known-pins': [pin], 'served-pins': [pin], message: '\u05d0' },
    ];
    // More groups and more hosts than fit on one page.
    for (let n = 0; n < 130; n += 1) {
        const served = [`sha256/${Buffer.alloc(32, n).toString('base64')}`];
        const other = { enforced: true, 'known-pins': [pin], 'served-pins': served, message: 'x' };
        bodies.push({ hostname: 'many.example.org', ...other });
        if (n < 70) bodies.push({ hostname: `h${n}.example.org`, ...other });
    }
    for (const body of bodies) {
        const answer = await fetch(`http://127.0.0.1:${port}/r/`, {
            method: 'POST', body: JSON.stringify(body), headers: { 'content-type': 'application/json' },
        });
        if (answer.status !== 204) failures.push(`a report was refused: ${answer.status}`);
    }
}

async function check(browser, where, width, scheme) {
    const context = await browser.newContext({
        viewport: { width, height: 900 }, colorScheme: scheme, bypassCSP: false, storageState,
    });
    const page = await context.newPage();
    const fail = (text) => failures.push(`${where} at ${width}, ${scheme}: ${text}`);
    page.on('console', (message) => message.type() === 'error' && where !== '/no-such-page' && fail(message.text()));
    page.on('pageerror', (error) => fail(error.message));
    page.on('dialog', (dialog) => { fail('a dialog'); dialog.dismiss(); });
    await page.goto(site + where);
    const size = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    if (size[0] > size[1]) fail(`${size[0]} pixels wide`);
    if (await page.title() === 'run' || await page.locator('main script, main img').count()) fail('a script or an image');
    // The page's Content-Security-Policy does not apply to scripts of the debugger.
    await page.evaluate(axe);
    const found = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
    for (const violation of found.violations) {
        fail(`axe: ${violation.id}: ${violation.nodes.map((node) => node.html).slice(0, 3).join(' ')}`);
    }
    // The first tab stop skips the header. Each tab stop must be visible.
    await page.keyboard.press('Tab');
    const first = await page.evaluate(() => document.activeElement.className);
    if (first !== 'skip') fail(`the first stop is ${first}`);
    const stops = await page.locator('a, button, input').count();
    for (let stop = 1; stop < Math.min(stops, 12); stop += 1) {
        await page.keyboard.press('Tab');
        const style = await page.evaluate(() => {
            const element = document.activeElement;
            return element === document.body ? 'end' : getComputedStyle(element).outlineStyle;
        });
        if (style === 'end') break;
        if (style === 'none') { fail(`stop ${stop} is not to be seen`); break; }
    }
    await context.close();
}

async function signIn(browser, where) {
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.goto(site + where);
    await page.getByLabel('Token').fill('wrong');
    await page.keyboard.press('Enter');
    await page.getByRole('alert').waitFor();
    await page.getByLabel('Token').fill(token);
    await page.keyboard.press('Enter');
    await page.waitForURL(site + where);
    storageState = await context.storageState();
    const cookie = storageState.cookies[0];
    if (!cookie.httpOnly || cookie.sameSite !== 'Strict') failures.push(`the cookie: ${JSON.stringify(cookie)}`);
    await page.getByRole('button', { name: 'Sign out' }).click();
    await page.waitForURL(/\/login$/);
    await page.goto(site + where);
    if (!page.url().includes('/login')) failures.push('signing out does not end it');
    await context.close();
}

async function walk(browser) {
    // Walks through the pages with the keyboard only.
    const page = await browser.newPage({ storageState });
    await page.goto(site);
    await page.getByRole('link', { name: host, exact: true }).focus();
    await page.keyboard.press('Enter');
    await page.waitForURL(/\/host\//);
    await page.locator('.groups a').first().focus();
    await page.keyboard.press('Enter');
    await page.waitForURL(/\/group\//);
    const text = await page.locator('.answer').innerText();
    if (!text.includes('Our own mistake')) failures.push(`the answer is ${text}`);
    const own = await page.locator('.tree .own').count();
    if (own !== 1) failures.push(`${own} keys are marked as ours`);
    await page.goto(site);
    await page.getByLabel('Search').fill('fiddler');
    await page.keyboard.press('Enter');
    await page.waitForURL(/q=fiddler/);
    const cards = await page.locator('.card').count();
    if (cards !== 1) failures.push(`${cards} cards for a search`);
    await page.close();
}

async function shoot(browser, groups) {
    const context = await browser.newContext({ viewport: { width: 900, height: 700 }, colorScheme: 'light', storageState });
    const page = await context.newPage();
    for (const [name, where] of [['reports-overview', '/'], ['reports-group', groups[0]]]) {
        await page.goto(site + where);
        await page.screenshot({ path: path.join(screenshots, `${name}.png`), fullPage: name === 'reports-group' });
    }
    await context.close();
}

(async () => {
    await fill();
    const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox'] });
    await signIn(browser, `/host/${host}`);
    const page = await browser.newPage({ storageState });
    await page.goto(`${site}/host/${host}`);
    const groups = await page.locator('.groups a').evaluateAll((all) => all.map((one) => one.getAttribute('href')));
    await page.goto(`${site}/host/shop.example.com`);
    groups.push(await page.locator('.groups a').first().getAttribute('href'));
    await page.close();
    const wheres = ['/', '/?q=nothing-of-that-kind', `/host/${host}`, '/?page=2', '/host/many.example.org?page=2',
        '/host/www.xn--4db.example', '/login?to=%2Fgroup%2Fx', '/no-such-page', ...groups];
    for (const where of wheres) {
        for (const width of [360, 768, 1440]) {
            for (const scheme of ['light', 'dark']) {
                // eslint-disable-next-line no-await-in-loop
                await check(browser, where, width, scheme);
            }
        }
    }
    await walk(browser);
    if (screenshots) await shoot(browser, groups);
    await browser.close();
    if (failures.length) {
        console.error([...new Set(failures)].join('\n'));
        process.exit(1);
    }
    console.log(`${wheres.length} pages, 3 widths, 2 colour schemes: no violation`);
})();
