package page

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// required is set where a missing browser is a failure: where the tests are run for the record.
const required = "IMPRINT_BROWSER"

// absent skips the test, or fails it where the browser must be there.
func absent(t testing.TB, what string) {
	t.Helper()
	if os.Getenv(required) != "" {
		t.Fatalf("%s is missing, and %s is set", what, required)
	}
	t.Skipf("%s is missing", what)
}

// patience is how long the browser may take for one answer.
const patience = 2 * time.Minute

// A browser is a running Chromium, spoken to in its DevTools protocol: JSON messages that end with a zero byte, written to its
// file descriptor 3 and read from its 4.
type browser struct {
	command *exec.Cmd
	in      io.WriteCloser
	profile string
	writing sync.Mutex
	last    atomic.Int64
	mu      sync.Mutex
	waiting map[int64]chan message
	tabs    map[string]*tab
	gone    chan struct{} // closed when nothing more is heard
}

type message struct {
	ID        int64           `json:"id,omitempty"`
	Session   string          `json:"sessionId,omitempty"`
	Method    string          `json:"method,omitempty"`
	Params    json.RawMessage `json:"params,omitempty"`
	Result    json.RawMessage `json:"result,omitempty"`
	Complaint *struct {
		Message string `json:"message"`
	} `json:"error,omitempty"`
}

// the one browser of this package's tests: each test opens tabs of its own.
var shared struct {
	sync.Once
	*browser
	err error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.browser != nil {
		shared.quit()
	}
	os.Exit(code)
}

// chromium returns the running browser.
func chromium(t testing.TB) *browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		absent(t, "chromium")
	}
	shared.Do(func() { shared.browser, shared.err = start(path) })
	if shared.err != nil {
		t.Fatalf("starting chromium: %v", shared.err)
	}
	return shared.browser
}

func start(path string) (*browser, error) {
	profile, err := os.MkdirTemp("", "imprint-page-")
	if err != nil {
		return nil, err
	}
	theirs, ours, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	back, answers, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	// The background flags keep it from looking for its maker's hosts; font rendering and scale are fixed so that pictures are alike.
	c := exec.Command(path, "--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions", "--disable-dev-shm-usage",
		"--force-device-scale-factor=1", "--hide-scrollbars", "--user-data-dir="+profile, "about:blank")
	c.ExtraFiles = []*os.File{theirs, answers}
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // it and its children end together
	if err := c.Start(); err != nil {
		return nil, err
	}
	theirs.Close()
	answers.Close()
	b := &browser{command: c, in: ours, profile: profile, waiting: map[int64]chan message{}, tabs: map[string]*tab{}, gone: make(chan struct{})}
	go b.listen(back)
	return b, nil
}

// quit ends the browser that was started here, and all its children.
func (b *browser) quit() {
	b.send("", "Browser.close", nil)
	ended := make(chan struct{})
	go func() { b.command.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		syscall.Kill(-b.command.Process.Pid, syscall.SIGKILL)
		<-ended
	}
	b.in.Close()
	os.RemoveAll(b.profile)
}

func (b *browser) listen(from io.ReadCloser) {
	defer close(b.gone)
	defer from.Close()
	r := bufio.NewReaderSize(from, 1<<20)
	for {
		raw, err := r.ReadBytes(0)
		if err != nil {
			return
		}
		var m message
		if json.Unmarshal(bytes.TrimSuffix(raw, []byte{0}), &m) != nil {
			return
		}
		b.mu.Lock()
		answer, tab := b.waiting[m.ID], b.tabs[m.Session]
		delete(b.waiting, m.ID)
		b.mu.Unlock()
		switch {
		case m.ID != 0 && answer != nil:
			answer <- m
		case m.Method != "" && tab != nil:
			tab.heard(m)
		}
	}
}

func (b *browser) send(session, method string, params any) (<-chan message, error) {
	if params == nil {
		params = struct{}{}
	}
	p, err := json.Marshal(params)
	if err != nil {
		return nil, err
	}
	m := message{ID: b.last.Add(1), Session: session, Method: method, Params: p}
	raw, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	answer := make(chan message, 1)
	b.mu.Lock()
	b.waiting[m.ID] = answer
	b.mu.Unlock()
	b.writing.Lock()
	defer b.writing.Unlock()
	_, err = b.in.Write(append(raw, 0))
	return answer, err
}

// call asks the browser and waits for its answer, which goes into result.
func (b *browser) call(ctx context.Context, session, method string, params, result any) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	answer, err := b.send(session, method, params)
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	select {
	case m := <-answer:
		if m.Complaint != nil {
			return fmt.Errorf("%s: %s", method, m.Complaint.Message)
		}
		if result == nil {
			return nil
		}
		return json.Unmarshal(m.Result, result)
	case <-b.gone:
		return fmt.Errorf("%s: the browser is gone", method)
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", method, ctx.Err())
	}
}

// A view is how a page is looked at.
type view struct {
	width  int
	height int // 0: 900
	dark   bool
	print  bool
	noJS   bool
}

// A tab is one page in a browser, with profile and cache of its own. What the page asked the network for and what its console said is kept.
type tab struct {
	t       testing.TB
	b       *browser
	session string
	loaded  chan struct{}
	mu      sync.Mutex
	asked   []string // URLs
	said    []string // console messages, exceptions, log entries
}

func (b *browser) tab(t testing.TB, v view) *tab {
	t.Helper()
	p := &tab{t: t, b: b, loaded: make(chan struct{}, 16)}
	var room struct{ BrowserContextID string }
	p.must(b.call(t.Context(), "", "Target.createBrowserContext", map[string]any{"disposeOnDetach": true}, &room))
	var target struct{ TargetID string }
	p.must(b.call(t.Context(), "", "Target.createTarget", map[string]any{"url": "about:blank", "browserContextId": room.BrowserContextID}, &target))
	var attached struct{ SessionID string }
	p.must(b.call(t.Context(), "", "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached))
	p.session = attached.SessionID
	b.mu.Lock()
	b.tabs[p.session] = p
	b.mu.Unlock()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		b.call(ctx, "", "Target.disposeBrowserContext", map[string]any{"browserContextId": room.BrowserContextID}, nil)
		b.mu.Lock()
		delete(b.tabs, p.session)
		b.mu.Unlock()
	})
	for _, domain := range []string{"Page", "Network", "Runtime", "Log"} {
		p.do(domain+".enable", nil)
	}
	p.look(v)
	return p
}

// look sets how the page is looked at.
func (p *tab) look(v view) {
	p.t.Helper()
	if v.height == 0 {
		v.height = 900
	}
	scheme, media := "light", ""
	if v.dark {
		scheme = "dark"
	}
	if v.print {
		media = "print"
	}
	p.do("Emulation.setDeviceMetricsOverride", map[string]any{"width": v.width, "height": v.height, "deviceScaleFactor": 1, "mobile": false})
	p.do("Emulation.setEmulatedMedia", map[string]any{"media": media, "features": []map[string]string{
		{"name": "prefers-color-scheme", "value": scheme}, {"name": "prefers-reduced-motion", "value": "reduce"},
	}})
	p.do("Emulation.setScriptExecutionDisabled", map[string]any{"value": v.noJS})
}

func (p *tab) heard(m message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch m.Method {
	case "Page.loadEventFired":
		select {
		case p.loaded <- struct{}{}:
		default:
		}
	case "Network.requestWillBeSent":
		var e struct{ Request struct{ URL string } }
		json.Unmarshal(m.Params, &e)
		p.asked = append(p.asked, e.Request.URL)
	case "Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded":
		p.said = append(p.said, m.Method+" "+string(m.Params))
	}
}

func (p *tab) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *tab) do(method string, params any) {
	p.t.Helper()
	p.must(p.b.call(p.t.Context(), p.session, method, params, nil))
}

// open goes to a URL and waits until it is loaded.
func (p *tab) open(url string) {
	p.t.Helper()
	for len(p.loaded) > 0 {
		<-p.loaded
	}
	p.mu.Lock()
	p.asked, p.said = nil, nil
	p.mu.Unlock()
	var went struct{ ErrorText string }
	p.must(p.b.call(p.t.Context(), p.session, "Page.navigate", map[string]any{"url": url}, &went))
	if went.ErrorText != "" {
		p.t.Fatalf("opening %s: %s", url, went.ErrorText)
	}
	select {
	case <-p.loaded:
	case <-p.b.gone:
		p.t.Fatalf("opening %s: the browser is gone", url)
	case <-time.After(patience):
		p.t.Fatalf("opening %s: not loaded after %s", url, patience)
	}
}

// eval runs a script in the page, waits for its promise if it returns one, and puts what comes out into result.
func (p *tab) eval(script string, result any) {
	p.t.Helper()
	var out struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails *struct {
			Text      string
			Exception struct{ Description string }
		}
	}
	p.must(p.b.call(p.t.Context(), p.session, "Runtime.evaluate",
		map[string]any{"expression": script, "awaitPromise": true, "returnByValue": true, "userGesture": true}, &out))
	if e := out.ExceptionDetails; e != nil {
		p.t.Fatalf("%.200s: %s %s", script, e.Text, e.Exception.Description)
	}
	if result == nil {
		return
	}
	if len(out.Result.Value) == 0 {
		p.t.Fatalf("%.200s: no value", script)
	}
	p.must(json.Unmarshal(out.Result.Value, result))
}

func (p *tab) evalInt(script string) int {
	p.t.Helper()
	var n int
	p.eval(script, &n)
	return n
}

func (p *tab) evalString(script string) string {
	p.t.Helper()
	var s string
	p.eval(script, &s)
	return s
}

// keys are what a key press tells a page.
var keys = map[string]map[string]any{
	"Tab":       {"key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9},
	"Enter":     {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"},
	"Space":     {"key": " ", "code": "Space", "windowsVirtualKeyCode": 32, "text": " "},
	"ArrowDown": {"key": "ArrowDown", "code": "ArrowDown", "windowsVirtualKeyCode": 40},
	"Escape":    {"key": "Escape", "code": "Escape", "windowsVirtualKeyCode": 27},
	"Backspace": {"key": "Backspace", "code": "Backspace", "windowsVirtualKeyCode": 8},
}

// press presses a key as a person does.
func (p *tab) press(key string) {
	p.t.Helper()
	down := map[string]any{"type": "keyDown"}
	up := map[string]any{"type": "keyUp"}
	for k, v := range keys[key] {
		down[k], up[k] = v, v
	}
	if keys[key] == nil {
		p.t.Fatalf("no key %q", key)
	}
	delete(up, "text")
	p.do("Input.dispatchKeyEvent", down)
	p.do("Input.dispatchKeyEvent", up)
}

// write types text into what has the focus.
func (p *tab) write(text string) {
	p.t.Helper()
	p.do("Input.insertText", map[string]any{"text": text})
}

// picture takes a picture of the page from the top, at most limit pixels of it (0: what the window shows), into a file.
func (p *tab) picture(file string, limit int) {
	p.t.Helper()
	params := map[string]any{"format": "png"}
	if limit > 0 {
		size := struct{ W, H int }{}
		p.eval(`({W: document.documentElement.clientWidth, H: document.documentElement.scrollHeight})`, &size)
		params["captureBeyondViewport"] = true
		params["clip"] = map[string]any{"x": 0, "y": 0, "width": size.W, "height": min(size.H, limit), "scale": 1}
	}
	var out struct{ Data string }
	p.must(p.b.call(p.t.Context(), p.session, "Page.captureScreenshot", params, &out))
	raw, err := base64.StdEncoding.DecodeString(out.Data)
	p.must(err)
	p.must(os.MkdirAll(filepath.Dir(file), 0o755))
	p.must(os.WriteFile(file, raw, 0o644))
}

// pdf prints the page.
func (p *tab) pdf(file string, landscape bool) {
	p.t.Helper()
	var out struct{ Stream string }
	p.must(p.b.call(p.t.Context(), p.session, "Page.printToPDF", map[string]any{
		"landscape": landscape, "printBackground": false, "paperWidth": 8.27, "paperHeight": 11.69, "preferCSSPageSize": true,
		"generateTaggedPDF": false, "transferMode": "ReturnAsStream",
	}, &out))
	f, err := os.Create(file)
	p.must(err)
	defer f.Close()
	for {
		var part struct {
			Data          string
			Base64Encoded bool
			EOF           bool
		}
		p.must(p.b.call(p.t.Context(), p.session, "IO.read", map[string]any{"handle": out.Stream, "size": 1 << 20}, &part))
		raw := []byte(part.Data)
		if part.Base64Encoded {
			raw, err = base64.StdEncoding.DecodeString(part.Data)
			p.must(err)
		}
		if _, err := f.Write(raw); err != nil {
			p.t.Fatal(err)
		}
		if part.EOF {
			break
		}
	}
	p.do("IO.close", map[string]any{"handle": out.Stream})
}

// quiet fails the test if the page complained or asked the network for anything but itself.
func (p *tab) quiet(url string) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.said {
		p.t.Errorf("the console says: %.600s", s)
	}
	if len(p.asked) != 1 || p.asked[0] != url {
		p.t.Errorf("asked for %q, want only %s", p.asked, url)
	}
}

// pdfText returns the text of a PDF, page by page.
func pdfText(t testing.TB, file string) []string {
	t.Helper()
	tool, err := exec.LookPath("pdftotext")
	if err != nil {
		absent(t, "pdftotext")
	}
	out, err := exec.CommandContext(t.Context(), tool, "-layout", "-enc", "UTF-8", file, "-").Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("pdftotext: %s", exit.Stderr)
		}
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(out), "\f"), "\f")
}
