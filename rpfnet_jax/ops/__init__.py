"""Pure functions of arrays that the network and the losses share, and the types of those arrays."""

from jaxtyping import Array, Float

Images = Float[Array, "b h w 1"]
FeatureMaps = Float[Array, "b h w c"]
Scalar = Float[Array, ""]
