package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"strings"
	"time"
)

// misbehave does what a process can do wrong.
func (r *run) misbehave() error {
	if class, found := strings.CutPrefix(r.fault, "class="); found {
		return &failure{"ACCESS_DENIED", "refused as " + class, map[string]string{"class": class, "remedy": "do as " + class + " says"}}
	}
	if code, found := strings.CutPrefix(r.fault, "error="); found {
		return fail(code, "as the test wants it")
	}
	switch r.fault {
	case "crash":
		fmt.Fprintf(os.Stderr, "boom\x1b[31m in line 1\nand more %s", strings.Repeat("of it ", 1000))
		os.Exit(3)
	case "panic":
		panic("a\nplugin written in Go")
	case "killed":
		self, err := os.FindProcess(os.Getpid())
		if err == nil {
			err = self.Kill()
		}
		time.Sleep(time.Minute)
		return err
	case "crash-orphan":
		if err := r.leave(); err != nil {
			return err
		}
		os.Exit(4)
	case "hang":
		if err := r.leave(); err != nil {
			return err
		}
		if err := appendTo(r.config["pids-file"], fmt.Sprintln(os.Getpid())); err != nil {
			return err
		}
		time.Sleep(10 * time.Minute)
	case "orphan": // answers, but something that holds the pipes stays
		return r.leave()
	case "huge":
		flood(os.Stdout, 100<<20)
		os.Exit(0)
	case "flood":
		flood(os.Stderr, 100<<20)
		os.Exit(1)
	case "noise": // a log that is not too long, and a good answer
		flood(os.Stderr, 1<<20)
	case "garbage":
		fmt.Print("Sign in at https://plugin.example/login\n{}")
		os.Exit(0)
	case "silent":
		os.Exit(0)
	case "array":
		fmt.Print("[1]")
		os.Exit(0)
	case "twice":
		fmt.Printf(`{"keyId":%q,"keyId":%q}`, r.request.KeyID, r.request.KeyID)
		os.Exit(0)
	case "open":
		fmt.Printf(`{"keyId":%q,`, r.request.KeyID)
		os.Exit(0)
	case "error-as-text":
		fmt.Fprint(os.Stderr, `{"errorMessage":"no code"}`)
		os.Exit(1)
	}
	return nil
}

// leave starts a process that holds this one's output.
func (r *run) leave() error {
	c := exec.Command(os.Args[0], "hold")
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	if err := c.Start(); err != nil {
		return err
	}
	return appendTo(r.config["pids-file"], fmt.Sprintln(c.Process.Pid))
}

func flood(f *os.File, size int) {
	chunk := []byte(strings.Repeat("x", 1<<20))
	for n := 0; n < size; n += len(chunk) {
		if _, err := f.Write(chunk); err != nil {
			time.Sleep(10 * time.Minute) // nobody listens: stay until ended
		}
	}
}

// spoil makes a good answer wrong.
func (r *run) spoil(out map[string]any) (map[string]any, error) {
	if name, found := strings.CutPrefix(r.fault, "without="); found {
		delete(out, name)
		return out, nil
	}
	if text, found := strings.CutPrefix(r.fault, "set="); found {
		name, value, _ := strings.Cut(text, "=")
		out[name] = value
		return out, nil
	}
	switch r.fault {
	case "trailing":
		fmt.Print("{}\n")
	case "extra":
		out["later"] = map[string]any{"minor": "version"}
		out["KeyID"] = "a name is what it is spelled as"
	case "number":
		for name := range out {
			out[name] = 7
		}
	case "contract":
		out["supportedContractVersions"] = []string{"2.0"}
	case "signature":
		if sig, ok := out["signature"].([]byte); ok {
			sig[len(sig)-1] ^= 1
		}
	case "leaf":
		der, err := stranger()
		if err != nil {
			return nil, err
		}
		out["certificateChain"] = [][]byte{der}
	case "chain-garbage":
		out["certificateChain"] = [][]byte{[]byte("no certificate")}
	case "chain-empty":
		out["certificateChain"] = [][]byte{}
	case "chain-long":
		chain, err := r.chain()
		if err != nil {
			return nil, err
		}
		for len(chain) <= 32 {
			chain = append(chain, chain[0])
		}
		out["certificateChain"] = chain
	case "annotations":
		out["annotations"] = map[string]string{"": "x"}
	case "annotations-long":
		out["annotations"] = map[string]string{"a": strings.Repeat("x", 65<<10)}
	case "envelope-long":
		out["signatureEnvelope"] = make([]byte, 1<<20+1)
	}
	return out, nil
}

// stranger returns a certificate of another key.
func stranger() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "stranger"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	return x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
}
