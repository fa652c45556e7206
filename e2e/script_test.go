package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/imprint-oci/imprint/registry/regtest"
)

var update = flag.Bool("update", false, "rewrite the stories' expected outputs")

// layout is the third place of a story, beside the two registries.
const layout = "layout"

// TestScripts runs each story at each place. Beside testscript's own verbs a story has
//
//	exit N COMMAND…          run a program, which must end with exactly that exit code
//	json PATH VALUE          what the program wrote to stdout is JSON with that value (json -line N PATH VALUE: in that line, from 1; ! json PATH: no such value)
//	pki                      a hierarchy of certificates and keys, as files (see certificates)
//	image|index REF          push an image, or an index of two platforms with their SBOMs; $DIGEST is its digest (index: $AMD64 and $ARM64, $SBOM of the first)
//	judge REF ROOT           notation-go accepts at level strict; ! judge: it rejects
//	judges REF N ROOT        REF has exactly N signatures, and notation-go accepts each of them alone
//	notation-sign [-cose] REF KEY CHAIN   sign with notation-go
//	transplant FROM TO       put FROM's first signature, as it is, on TO; tamper FROM TO: with one bit of its signature turned
//	requests reset|writes=N|deletes=N   assert what the source registry was asked since the last reset
//	registry down|gone|unauthorized|liar|blobless|undeletable|up   let the registry fail; the layout has no registry
//	lines FILE LINE…         write a file
//	oneerror                 the program wrote exactly one "imprint: error:" line and one hint to stderr, nothing to stdout
//
// and the variables $REPO (HOST/app, or oci:DIR), $HOST, $DEST (a repository of the other kind), $WORK. Conditions:
// [layout] [registry] [api] [noapi].
func TestScripts(t *testing.T) {
	t.Parallel()
	for _, place := range []string{string(regtest.WithAPI), string(regtest.WithoutAPI), layout} {
		t.Run(place, func(t *testing.T) {
			t.Parallel()
			testscript.Run(t, testscript.Params{
				Dir:                 "testdata",
				RequireExplicitExec: true,
				RequireUniqueNames:  true,
				UpdateScripts:       *update,
				Setup:               func(e *testscript.Env) error { return setup(e, place) },
				Condition:           func(cond string) (bool, error) { return condition(cond, place) },
				Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
					"exit": cmdExit, "json": cmdJSON, "pki": cmdPKI, "image": pushing(image), "index": pushing(index), "judge": cmdJudge, "judges": cmdJudges,
					"notation-sign": cmdNotationSign, "transplant": grafting(false), "tamper": grafting(true), "requests": cmdRequests,
					"registry": cmdRegistry, "oneerror": cmdOneError, "lines": cmdLines,
				},
			})
		})
	}
}

// A stage is where one story happens: the registries that its verbs talk to.
type stage struct{ source, dest *regtest.Server }

type stageKey struct{}

func setup(e *testscript.Env, place string) error {
	var s stage
	switch place {
	case layout:
		e.Setenv("REPO", "oci:"+filepath.Join(e.WorkDir, "app"))
		e.Setenv("DEST", "oci:"+filepath.Join(e.WorkDir, "dest"))
	default:
		other := regtest.WithAPI
		if place == string(other) {
			other = regtest.WithoutAPI
		}
		s = stage{regtest.Start(regtest.Kind(place)), regtest.Start(other)}
		e.Defer(s.source.Close)
		e.Defer(s.dest.Close)
		e.Setenv("HOST", s.source.Host)
		e.Setenv("REPO", s.source.Host+"/app")
		e.Setenv("DESTHOST", s.dest.Host)
		e.Setenv("DEST", s.dest.Host+"/prod/app")
	}
	e.Values[stageKey{}] = s
	home := filepath.Join(e.WorkDir, ".home")
	if err := os.MkdirAll(home, 0o700); err != nil {
		return err
	}
	e.Setenv("HOME", home)
	e.Setenv("GORACE", quickExit)
	e.Setenv("XDG_CONFIG_HOME", filepath.Join(home, ".config"))
	e.Setenv("XDG_CACHE_HOME", filepath.Join(home, ".cache"))
	e.Setenv("XDG_STATE_HOME", filepath.Join(home, ".state"))
	e.Setenv("DOCKER_CONFIG", filepath.Join(home, ".docker"))
	return nil
}

func condition(cond, place string) (bool, error) {
	switch cond {
	case "layout":
		return place == layout, nil
	case "registry":
		return place != layout, nil
	case "api":
		return place == string(regtest.WithAPI), nil
	case "noapi":
		return place == string(regtest.WithoutAPI), nil
	}
	return false, fmt.Errorf("unknown condition %q", cond)
}

// use stops the story unless it gave a verb between low and high arguments, and no "!".
func use(ts *testscript.TestScript, neg bool, args []string, low, high int, usage string) {
	if neg {
		ts.Fatalf("%s: it cannot be negated", usage)
	}
	if len(args) < low || len(args) > high {
		ts.Fatalf("usage: %s", usage)
	}
}

func cmdExit(ts *testscript.TestScript, neg bool, args []string) {
	use(ts, neg, args, 2, 1000, "exit N COMMAND…")
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	path, err := lookPath(ts, args[1])
	ts.Check(err)
	c := exec.CommandContext(ctx, path, args[2:]...)
	c.Dir = ts.MkAbs(".")
	c.Env = environ(ts)
	c.Stdout, c.Stderr = ts.Stdout(), ts.Stderr()
	err = c.Run()
	var exited *exec.ExitError
	if err != nil && !errors.As(err, &exited) {
		ts.Fatalf("%s: %v", args[1], err)
	}
	if got := c.ProcessState.ExitCode(); got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// environ is the story's environment.
func environ(ts *testscript.TestScript) []string {
	var env []string
	for _, name := range []string{"PATH", "HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME", "DOCKER_CONFIG", "TMPDIR", "NO_COLOR",
		"IMPRINT_CONFIG", "IMPRINT_POLICY", "IMPRINT_PASSPHRASE", "IMPRINT_OUTPUT", "GOCOVERDIR", "GORACE"} {
		if v := ts.Getenv(name); v != "" {
			env = append(env, name+"="+v)
		}
	}
	return env
}

func lookPath(ts *testscript.TestScript, name string) (string, error) {
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", exec.ErrNotFound
}

func cmdJSON(ts *testscript.TestScript, neg bool, args []string) {
	docs, err := documents(ts.ReadFile("stdout"))
	ts.Check(err)
	line := 1
	if len(args) > 2 && args[0] == "-line" {
		line, err = strconv.Atoi(args[1])
		ts.Check(err)
		args = args[2:]
	}
	if line < 0 {
		line += len(docs) + 1
	}
	if line < 1 || line > len(docs) {
		ts.Fatalf("stdout has %d JSON documents, none number %d", len(docs), line)
	}
	if neg {
		use(ts, false, args, 1, 1, "! json PATH")
		if v, ok := lookup(docs[line-1], args[0]); ok {
			ts.Fatalf("%s is %s, want none", args[0], said(v))
		}
		return
	}
	use(ts, false, args, 2, 2, "json [-line N] PATH VALUE")
	v, ok := lookup(docs[line-1], args[0])
	if !ok {
		ts.Fatalf("there is no %s", args[0])
	}
	if said(v) != args[1] {
		ts.Fatalf("%s is %s, want %s", args[0], said(v), args[1])
	}
}
