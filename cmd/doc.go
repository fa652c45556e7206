// Package cmd is the command line of imprint: one file per command, and nothing that a user of the libraries would miss.
//
// [Main] is the process, [Run] is the same thing as a function: the world comes in as an [Env], an exit code comes out.
//
// # How a command is made
//
// A command file holds a struct of inputs, a constructor that binds flags, and a run that is one straight line:
//
//	type verifyInputs struct {
//		judging judgingFlags
//		batch   batchFlags
//	}
//
//	func newVerify(s *session) *cobra.Command {
//		var in verifyInputs
//		c := &cobra.Command{
//			Use:     "verify REF…",
//			Short:   "may this reference be used? by a trust policy or a root certificate", // the line in --help
//			Long:    "…",          // one to three sentences
//			Example: "  imprint verify ghcr.io/acme/app:1.4.2 --root root.pem",
//			Args:    arguments(1, many, "REF…"),
//			RunE:    s.run(func(ctx context.Context, args []string) error { return runVerify(ctx, s, in, args) }),
//		}
//		in.judging.bind(c)
//		return c
//	}
//
// and its name stands once in [newRoot]'s list. A command with subcommands has no RunE of its own: [family] makes it. Then
// docs/commands is made again with `go run ./docs/gen`.
//
// What a run may use of the session:
//
//	s.now                       the one time of this run, captured at the start; never time.Now
//	s.client()                  the registry client of the network flags; s.open(ctx, ref) opens a repository
//	s.answer(kind, v, text)     the result on stdout: v as one JSON line with -o json, else what text(w) writes (package cmd/ui)
//	s.note(format, …)           talk on stderr, silent with -q;  s.warn(code, text) a warning, each once
//	s.read(path, limit)         a regular file, at most limit bytes;  s.write(path, b, perm, overwrite) a file, atomically
//	in.key.open(ctx, s)         the key of --key, passphrase asked for where it must be (keyflags.go)
//	s.certificates(paths)       the certificates of --chain and --root files (chainfiles.go)
//	s.givenChain(files, key)    the signing chain as far as files have it; s.chainOf completes it from beside the opened key
//	keyName(k, given)           a key for people, without secrets; givenName(given) as it was named
//	in.judging.policy(s)        the policy of --policy or --root, narrowed (judging.go)
//	runBatch                    REF… or --batch FILE, items at once, summary, exit code (batch.go)
//
// Errors are returned, never printed. What the caller handed in wrong is [usage]("…"), with a next step [usageHint];
// every other error keeps its sentinel, so that exit.go finds its exit code and hint.go its hint. A judgement that is
// not an error (verify said no) is a *verdict: nothing is printed but its hint.
//
// A flag is taken from the command line, else from IMPRINT_<FLAG>, else from the configuration file (settings.go); a
// command sees only the result. Flags that must never come from the environment stand in neverAmbient there; flags
// that name files stand in pathFlags.
package cmd
