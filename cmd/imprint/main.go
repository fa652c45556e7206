// imprint signs and publishes OCI artifacts.
package main

import "github.com/imprint-oci/imprint/cmd"

func main() { cmd.Main() }
