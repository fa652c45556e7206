// Command notation-pkcs11 is a Notary Project plugin that signs with keys in PKCS #11 tokens.
package main

import (
	"context"
	"os"
	"time"

	"github.com/imprint-oci/imprint/kms/pkcs11/plugin"
)

// version is what this build calls itself; the linker may set it (-X main.version=1.2.3).
var version = "0.1.0-dev"

func main() {
	stdout, stderr := os.Stdout, os.Stderr
	if len(os.Args) > 1 {
		stdout, stderr = reserved()
	}
	os.Exit(plugin.Run(context.Background(), plugin.Process{
		Version: version, Now: time.Now(), Args: os.Args[1:], Stdin: os.Stdin, Stdout: stdout, Stderr: stderr,
	}))
}
