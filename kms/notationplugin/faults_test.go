package notationplugin

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/kms"
	"github.com/imprint-oci/imprint/kms/kmstest/plugintest"
)

// TestFaultsSigning: the plugin was opened, and then its signature is of no use. Nothing that is final is asked for twice.
func TestFaultsSigning(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		fault, code, says string
	}{
		{"crash", kms.CodePlugin, "plugin test: generate-signature: it ended with exit status 3: boom[31m in line 1 and more of it"},
		{"panic", kms.CodePlugin, "it ended with exit status 2: panic: a plugin written in Go"},
		{"killed", kms.CodePlugin, "it ended with signal: killed"},
		{"huge", kms.CodePlugin, "it wrote more than 16 MiB"},
		{"flood", kms.CodePlugin, "it wrote more than 16 MiB"},
		{"garbage", kms.CodePlugin, `its answer is no JSON object: "Sign in at https://plugin.example/login`},
		{"silent", kms.CodePlugin, "its answer is no JSON object"},
		{"array", kms.CodePlugin, "its answer is no JSON object"},
		{"twice", kms.CodePlugin, `its answer has the member "keyId" twice`},
		{"open", kms.CodePlugin, "its answer is no JSON"},
		{"trailing", kms.CodePlugin, "its answer goes on after the JSON object"},
		{"number", kms.CodePlugin, "its answer has a keyId of another type"},
		{"set=keyId=other", kms.CodePlugin, `its answer is about the key "other", not about "team/key"`},
		{"set=keyId=team", kms.CodePlugin, `about the key "team", not`},
		{"without=keyId", kms.CodePlugin, "its answer has no keyId"},
		{"without=signature", kms.CodePlugin, "its answer has no signature"},
		{"set=signature=", kms.CodePlugin, "its answer has an empty signature"},
		{"set=signature=a-b_", kms.CodePlugin, "its answer has a signature that is no base64"},
		{"set=signature=AAAA", kms.CodeSignature, "3 bytes instead of r and s of 32 bytes each"},
		{"signature", kms.CodeSignature, "no signature of the key that was opened"},
		{"set=signingAlgorithm=ECDSA-SHA-384", kms.CodePlugin, "it signed by ECDSA-SHA-384, not by ECDSA-SHA-256"},
		{"set=certificateChain=x", kms.CodePlugin, "its answer has a certificateChain of another type"},
		{"without=certificateChain", kms.CodePlugin, "its answer has no certificateChain"},
		{"chain-empty", kms.CodePlugin, "its answer has an empty certificateChain"},
		{"chain-garbage", kms.CodePlugin, "whose certificate 1 cannot be read"},
		{"chain-long", kms.CodePlugin, "a certificateChain of 33 certificates, more than 32"},
		{"leaf", kms.CodePlugin, "its certificate (CN=stranger) is for another key than the one that was opened"},
		{"error=VALIDATION_ERROR", kms.CodeService, "plugin test: generate-signature: VALIDATION_ERROR: as the test wants it"},
		{"error=UNSUPPORTED_CONTRACT_VERSION", kms.CodePlugin, "UNSUPPORTED_CONTRACT_VERSION"},
		{"error=ACCESS_DENIED", kms.CodeDenied, "ACCESS_DENIED: as the test wants it"},
		{"error=ERROR", kms.CodeService, "ERROR: as the test wants it"},
		{"error=WHATEVER", kms.CodeService, "WHATEVER"},
		{"class=credentials", kms.CodeDenied, "refused as credentials"}, // the words of our own plugin mean nothing in others
		{"error-as-text", kms.CodePlugin, `it ended with exit status 1: {"errorMessage":"no code"}`},
	} {
		t.Run(strings.ReplaceAll(test.fault, "/", " "), func(t *testing.T) {
			t.Parallel()
			s := newStage(t, "P-256")
			k := s.opened(t, kms.Options{Leaf: s.chain[0].PublicKey, Config: s.config.With("fault", test.fault)})
			m, calls := kms.Metered(k)
			err := signOnce(t.Context(), m)
			wantError(t, err, test.code, "signing with "+testURI, test.says)
			if n := s.Calls("generate-signature"); n != 1 || calls.Load() != 1 {
				t.Errorf("%d calls, %d counted, want 1", n, calls.Load())
			}
		})
	}
}

// TestFaultsOpening: each of these is found before anything is signed with the key, and says which key could not be opened.
func TestFaultsOpening(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		fault, code, says string
	}{
		{"get-plugin-metadata/crash", kms.CodePlugin, "plugin test: get-plugin-metadata: it ended with exit status 3"},
		{"get-plugin-metadata/set=name=other", kms.CodePlugin, `it calls itself "other"`},
		{"get-plugin-metadata/without=name", kms.CodePlugin, "its answer has no name"},
		{"get-plugin-metadata/set=version=", kms.CodePlugin, "its answer has an empty version"},
		{"get-plugin-metadata/without=url", kms.CodePlugin, "its answer has no url"},
		{"get-plugin-metadata/without=capabilities", kms.CodePlugin, "its answer has no capabilities"},
		{"get-plugin-metadata/set=capabilities=RAW", kms.CodePlugin, "its answer has a capabilities of another type"},
		{"get-plugin-metadata/without=supportedContractVersions", kms.CodePlugin, "its answer has no supportedContractVersions"},
		{"get-plugin-metadata/contract", kms.CodePlugin, `it speaks the plugin contract ["2.0"], not 1.0`},
		{"describe-key/crash", kms.CodePlugin, "plugin test: describe-key: it ended with exit status 3"},
		{"describe-key/set=keyId=other", kms.CodePlugin, `its answer is about the key "other"`},
		{"describe-key/without=keySpec", kms.CodePlugin, "its answer has no keySpec"},
		{"describe-key/set=keySpec=ED25519", kms.CodeAlgorithm, `the key is "ED25519", as the plugin test says: Notary Project signatures need`},
		{"describe-key/set=keySpec=EC-384", kms.CodeService, "VALIDATION_ERROR"}, // the plugin itself notices the next request
		{"describe-key/error=VALIDATION_ERROR", kms.CodeService, "VALIDATION_ERROR"},
		{"describe-key/error=ACCESS_DENIED", kms.CodeDenied, "ACCESS_DENIED"},
		{"chain-empty", kms.CodePlugin, "an empty certificateChain"},
		{"chain-garbage", kms.CodePlugin, "cannot be read"},
		{"signature", kms.CodeSignature, "what came back is no signature of its certificate's key"},
		{"leaf", kms.CodeSignature, "what came back is no signature of its certificate's key"},
	} {
		t.Run(strings.ReplaceAll(test.fault, "/", " "), func(t *testing.T) {
			t.Parallel()
			s := newStage(t, "P-256")
			_, err := s.open(t.Context(), mustURI(t, testURI), kms.Options{Config: s.config.With("fault", test.fault)})
			wantError(t, err, test.code, "opening key "+testURI, test.says)
		})
	}
}

// TestOtherSpec: describe-key and the certificate disagree.
func TestOtherSpec(t *testing.T) {
	t.Parallel()
	s := newStage(t, "P-256")
	_, chain := certtest.ChainOf(2, "P-384")
	c := s.AddKey("mixed", s.key, chain...)
	_, err := s.open(t.Context(), mustURI(t, testURI), kms.Options{Config: c})
	wantError(t, err, kms.CodePlugin, "its certificate is for a key EC-384, but describe-key said EC-256")
}

// TestNoSigner: a plugin that verifies only.
func TestNoSigner(t *testing.T) {
	t.Parallel()
	s := newStage(t, "P-256")
	_, err := s.open(t.Context(), mustURI(t, testURI), kms.Options{Config: s.config.With("capabilities", "NONE")})
	wantError(t, err, kms.CodePlugin, "it does not sign: its capabilities are SIGNATURE_VERIFIER.REVOCATION_CHECK")
}

// TestTolerated: what looks odd and harms nobody.
func TestTolerated(t *testing.T) {
	t.Parallel()
	for _, fault := range []string{"extra", "noise", "get-plugin-metadata/extra", "describe-key/extra", "without=signingAlgorithm"} {
		s := newStage(t, "P-256")
		if err := signOnce(t.Context(), s.opened(t, kms.Options{Config: s.config.With("fault", fault)})); err != nil {
			t.Errorf("%s: %v", fault, err)
		}
	}
}

func TestSalt(t *testing.T) {
	t.Parallel()
	s := newStage(t, "RSA-2048")
	k := s.opened(t, kms.Options{Leaf: s.chain[0].PublicKey, Config: s.config.With("fault", "salt")})
	wantError(t, signOnce(t.Context(), k), kms.CodeSignature, "its PSS salt is not as long as the hash")
}

// TestThrottled (F31): busy twice and then fine, in every command; busy for ever; and an answer of TIMEOUT.
func TestThrottled(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"get-plugin-metadata", "describe-key", "generate-signature"} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, "P-256")
			k, calls := kms.Metered(s.opened(t, kms.Options{
				Leaf: s.chain[0].PublicKey, Config: s.config.With("fault", command+"/error=THROTTLED").With("times", "2")}))
			if err := signOnce(t.Context(), k); err != nil {
				t.Fatal(err)
			}
			if n := s.Calls(command); n != 3 {
				t.Errorf("%d calls of %s, want 3", n, command)
			}
			if n := s.Calls("generate-signature"); int64(n) != calls.Load() {
				t.Errorf("%d signatures, %d counted", n, calls.Load())
			}
		})
	}
	for fault, want := range map[string]struct {
		code  string
		calls int
	}{
		"error=THROTTLED": {kms.CodeThrottled, 8},
		"error=TIMEOUT":   {kms.CodeUnreachable, 3},
	} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, "P-256")
			k := s.opened(t, kms.Options{Leaf: s.chain[0].PublicKey, Config: s.config.With("fault", fault)})
			wantError(t, signOnce(t.Context(), k), want.code, "asked")
			if n := s.Calls("generate-signature"); n != want.calls {
				t.Errorf("%d calls, want %d", n, want.calls)
			}
		})
	}
}

// TestHang: a plugin that says nothing is ended with what it started, after the patience or with the context.
func TestHang(t *testing.T) {
	t.Parallel()
	t.Run("patience", func(t *testing.T) {
		t.Parallel()
		s, k, pids := hanging(t, "hang", 3*time.Second)
		begun := time.Now()
		wantError(t, signOnce(t.Context(), k), kms.CodeUnreachable, "no answer within 3s", "plugin test: generate-signature: ended before it answered")
		if took := time.Since(begun); took > 8*time.Second {
			t.Errorf("it took %s", took)
		}
		gone(t, pids, 2)
		if n := s.Calls("generate-signature"); n != 1 {
			t.Errorf("asked %d times", n)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		t.Parallel()
		_, k, pids := hanging(t, "hang", time.Minute)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- signOnce(ctx, k) }()
		for {
			if b, err := os.ReadFile(pids); err == nil && strings.Count(string(b), "\n") == 2 {
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
		cancel()
		select {
		case err := <-done:
			if !errors.Is(err, context.Canceled) {
				t.Errorf("not cancelled: %v", err)
			}
		case <-time.After(5 * time.Second):
			t.Fatal("it goes on after it was cancelled")
		}
		gone(t, pids, 2)
	})
	t.Run("opening", func(t *testing.T) {
		t.Parallel()
		s := newStage(t, "P-256")
		s.patience = 3 * time.Second
		pids := filepath.Join(t.TempDir(), "pids")
		_, err := s.open(t.Context(), mustURI(t, testURI), kms.Options{Config: s.config.With("fault", "describe-key/hang").With("pids-file", pids)})
		wantError(t, err, kms.CodeUnreachable, "opening key "+testURI, "describe-key")
		gone(t, pids, 2)
	})
}

// TestOrphans: the plugin leaves, and something that it started holds its output. That costs a second, not the run.
func TestOrphans(t *testing.T) {
	t.Parallel()
	t.Run("answered", func(t *testing.T) {
		t.Parallel()
		_, k, pids := hanging(t, "orphan", 20*time.Second)
		begun := time.Now()
		if err := signOnce(t.Context(), k); err != nil {
			t.Error(err)
		}
		if took := time.Since(begun); took > 6*time.Second {
			t.Errorf("it took %s", took)
		}
		gone(t, pids, 1)
	})
	t.Run("crashed", func(t *testing.T) {
		t.Parallel()
		_, k, pids := hanging(t, "crash-orphan", 20*time.Second)
		begun := time.Now()
		wantError(t, signOnce(t.Context(), k), kms.CodePlugin, "exit status 4")
		if took := time.Since(begun); took > 6*time.Second {
			t.Errorf("it took %s", took)
		}
		gone(t, pids, 1)
	})
}

// hanging opens a key whose signatures do as fault says, with a file of the processes that may be left.
func hanging(t *testing.T, fault string, patience time.Duration) (s *stage, k kms.Key, pids string) {
	t.Helper()
	s = newStage(t, "P-256")
	s.patience = patience
	pids = filepath.Join(t.TempDir(), "pids")
	k = s.opened(t, kms.Options{Leaf: s.chain[0].PublicKey, Config: s.config.With("fault", fault).With("pids-file", pids)})
	return s, k, pids
}

// gone wants n processes in the file, and none of them to run.
func gone(t *testing.T, pids string, n int) {
	t.Helper()
	b, err := os.ReadFile(pids)
	if err != nil || len(strings.Fields(string(b))) != n {
		t.Fatalf("%d processes were to be started, not %q, %v", n, b, err)
	}
	for until := time.Now().Add(3 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		left, err := plugintest.Left(pids)
		if err != nil {
			t.Fatal(err)
		}
		if len(left) == 0 {
			return
		}
		if time.Now().After(until) {
			t.Fatalf("left behind: %s", left)
		}
	}
}

// TestRemedy: who is refused learns where the plugin is documented.
func TestRemedy(t *testing.T) {
	t.Parallel()
	s := newStage(t, "P-256")
	_, err := s.open(t.Context(), mustURI(t, testURI), kms.Options{Config: s.config.With("fault", "describe-key/error=ACCESS_DENIED")})
	var e *kms.Error
	if !errors.As(err, &e) || !strings.Contains(e.Remedy, "https://plugin.example/docs") {
		t.Errorf("remedy %q of %v", e.Remedy, err)
	}
}
