package cmd

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"syscall"

	"github.com/imprint-oci/imprint/cmd/ui"
)

// A writer is standard output: whole answers at a time, its first error kept. A reader that went away is no error.
type writer struct {
	mu  sync.Mutex
	w   io.Writer
	err error
}

func (w *writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return len(p), nil
	}
	if _, err := w.w.Write(p); err != nil {
		w.err = err
	}
	return len(p), nil
}

// failure returns what kept answers from being written.
func (w *writer) failure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil || errors.Is(w.err, syscall.EPIPE) {
		return nil
	}
	return &diskError{fmt.Errorf("writing the answer: %w", w.err)}
}

// answer writes a result to standard output: v as one line of JSON whose first member is kind, or what text writes.
func (s *session) answer(kind string, v any, text func(w io.Writer)) error {
	s.flush("")
	if !s.json {
		var b bytes.Buffer
		text(&b)
		s.aside(func() { s.out.Write(b.Bytes()) })
		return nil
	}
	line, err := jsonLine(kind, v)
	if err != nil {
		return err
	}
	s.aside(func() { s.out.Write(line) })
	return nil
}

// jsonLine encodes v, which encodes as an object, as one line with kind as first member.
func jsonLine(kind string, v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("encoding the answer: %w", err)
	}
	object := b.Bytes()
	if len(object) < 2 || object[0] != '{' {
		return nil, fmt.Errorf("encoding the answer: %T is no object", v)
	}
	line := fmt.Appendf(nil, `{"kind":%q`, kind)
	if object[1] != '}' {
		line = append(line, ',')
	}
	return append(line, object[1:]...), nil
}

// note says something on standard error, unless --quiet.
func (s *session) note(format string, args ...any) {
	if s.quiet || s.out.failure() != nil { // it would speak of an answer that nobody has
		return
	}
	s.talk("imprint: ", fmt.Sprintf(format, args...))
}

// warn says what a person should know, each thing once.
func (s *session) warn(code, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	said := s.warned[code+"\n"+text]
	s.warned[code+"\n"+text] = true
	if !said && !s.quiet {
		s.held = append(s.held, warning{code, text})
	}
}

// A warning waits for what it belongs to.
type warning struct{ code, text string }

// flush says the warnings that were held; one that the error about says as well is dropped.
func (s *session) flush(about string) {
	s.mu.Lock()
	held := s.held
	s.held = nil
	s.mu.Unlock()
	for _, w := range held {
		if about == "" || !strings.HasPrefix(w.code, about) {
			s.talk("imprint: warning: ", w.text)
		}
	}
}

// warnOnce is warn for what need not be said of every item: once for each code.
func (s *session) warnOnce(code, text string) {
	s.mu.Lock()
	said := s.warned[code]
	s.warned[code] = true
	s.mu.Unlock()
	if !said {
		s.warn(code, text)
	}
}

// waiting tells a person, once in a run, what keeps it from going on.
func (s *session) waiting(why string) {
	s.mu.Lock()
	said := s.warned["key-waiting"]
	s.warned["key-waiting"] = true
	s.mu.Unlock()
	if !said && !s.quiet && !s.json {
		s.talk("imprint: ", "still waiting for the key service: "+why)
	}
}

// aside writes something while progress may be shown: that gives way.
func (s *session) aside(write func()) {
	s.mu.Lock()
	p := s.progress
	s.mu.Unlock()
	p.aside(write)
}

// talk writes one message to standard error, wrapped where that is a terminal.
func (s *session) talk(prefix, text string) {
	s.aside(func() { s.speak(prefix, text) })
}

// speak is talk where no progress is in the way.
func (s *session) speak(prefix, text string) {
	line := prefix + ui.Escape(redact(text))
	if s.env.Terminal.Err && s.env.Terminal.Width > 20 {
		line = wrap(line, s.env.Terminal.Width, "         ")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintln(s.err, line)
}

// wrap breaks text at blanks so that no line is wider than width; lines after the first are indented.
func wrap(text string, width int, indent string) string {
	var lines []string
	line := ""
	for _, word := range strings.Split(text, " ") {
		switch {
		case line == "":
			line = word
		case ui.Width(line)+1+ui.Width(word) > width:
			lines = append(lines, line)
			line = indent + word
		default:
			line += " " + word
		}
	}
	return strings.Join(append(lines, line), "\n")
}

// A failureLine is an error in JSON.
type failureLine struct {
	Item     []string `json:"item,omitempty"` // of a batch: what to run again
	Error    string   `json:"error"`
	Reason   string   `json:"reason,omitempty"`
	ExitCode int      `json:"exitCode"`
	KeyCalls int      `json:"keyCalls,omitempty"` // that were made all the same
	Hint     string   `json:"hint,omitempty"`
}

// report says an error: its text on standard error and, with -o json, an object on standard output. A verdict has been said
// already.
func (s *session) report(err error, item []string) {
	var v *verdict
	if errors.As(err, &v) {
		return
	}
	s.flush(reason(err))
	s.talk("imprint: error: ", err.Error())
	s.failureObject(err, item)
}

// failureObject says an error in JSON, where that is what is spoken.
func (s *session) failureObject(err error, item []string) {
	if s.json {
		words := make([]string, len(item))
		for i, w := range item {
			words[i] = redact(w)
		}
		_ = s.answer("error", failureLine{words, redact(err.Error()), reason(err), exitCode(err), keyCalls(err), redact(s.hint(err))}, nil)
	}
}

// redact takes user and password out of URLs, and PINs and where they lie out of PKCS #11 URIs: people paste them where references and
// keys belong.
func redact(text string) string {
	text = pins.ReplaceAllStringFunc(text, func(pair string) string {
		name, value, _ := strings.Cut(pair, "=")
		if name == "pin-source" && strings.TrimRight(value, "),.;:") == "FILE" { // how it is written
			return pair
		}
		return name + "=…" + value[len(strings.TrimRight(value, "),.;:")):]
	})
	var b strings.Builder
	for {
		i := strings.Index(text, "://")
		if i < 0 {
			break
		}
		i += len("://")
		b.WriteString(text[:i])
		text = text[i:]
		end := strings.IndexAny(text, "/?#\"' \t\n")
		if end < 0 {
			end = len(text)
		}
		if at := strings.LastIndexByte(text[:end], '@'); at >= 0 && !strings.HasPrefix(text[at:], "@sha") {
			b.WriteString("…")
			text = text[at:]
		}
	}
	return b.String() + text
}

// pins finds the attributes of RFC 7512 that hold a PIN or say where it is, also where they do not belong. A PIN may hold anything that
// ends no word.
var pins = regexp.MustCompile("(?i)\\bpin-(?:value|source)=[^&\\s\"'`]+")

// hint returns what to do next about err; of what was typed wrong, at least where to read how it is typed.
func (s *session) hint(err error) string {
	h, path := hint(err), "imprint"
	if s.command != nil {
		path = s.command.CommandPath()
	}
	if h != "" {
		if s.lacksToken(err) {
			h += "; " + idToken
		}
		return h
	}
	switch exitCode(err) {
	case exitUsage:
		return path + " --help"
	case exitRejected:
		return "imprint inspect REF shows everything that its signatures say"
	case exitKey:
		return "check the key service; imprint key show KEY asks it for the key alone"
	case exitDisk:
		return "check space and permissions: nothing half-written was left behind"
	}
	return "run it again; imprint doctor REF looks closer"
}

// end says how the run ended and returns its exit code.
func (s *session) end(err error) int {
	if err == nil {
		err = s.out.failure()
	}
	if err == nil {
		s.flush("")
		return exitDone
	}
	var b *batchError
	var i *interrupted
	switch {
	case errors.As(err, &b) && !errors.As(err, &i): // its failures were said one by one
		return b.code
	case b != nil: // and the summary is the last line of JSON
		s.flush(reason(err))
		s.talk("imprint: error: ", err.Error())
	default:
		s.report(err, nil)
	}
	if h := s.hint(err); h != "" {
		s.talk("imprint: hint: ", h)
	}
	return exitCode(err)
}
