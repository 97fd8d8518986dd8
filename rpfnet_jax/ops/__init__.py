"""Pure functions of arrays that the network and the losses share."""
