//go:build !unix

package main

import "os"

func reserved() (stdout, stderr *os.File) { return os.Stdout, os.Stderr }
